// What an image goes through before a model sees it: equal to `tfvit.preprocessing`, and so to Pillow, pixel for pixel.
//
// An image here is {width, height, pixels}: 8-bit RGB, row by row, three bytes each.

// Bits after the point: 8 are the pixel's, 2 are left for weights that overshoot
const PRECISION_BITS = 32 - 8 - 2;
const A = -0.5;
// `support` is how many source pixels to each side a pixel draws from, before shrinking widens it
const FILTERS = {
  bilinear: { support: 1, weight: (distance) => (distance < 1 ? 1 - distance : 0) },
  bicubic: {
    support: 2,
    weight: (distance) => {
      if (distance < 1) return ((A + 2) * distance - (A + 3)) * distance * distance + 1;
      if (distance < 2) return (((distance - 5) * distance + 8) * distance - 4) * A;
      return 0;
    },
  },
};
// A phone's canvas holds far fewer pixels than its camera takes
const STRIP_ROWS = 256;

// A picture's file as an upright image. Transparency is laid over white.
export async function decode(blob) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, { imageOrientation: 'from-image', colorSpaceConversion: 'none' });
  } catch (error) {
    throw new Error(`not a picture that this browser can read (${error.message ?? error})`);
  }
  try {
    return readPixels(bitmap, bitmap.width, bitmap.height);
  } finally {
    bitmap.close();
  }
}

// The pixels of a bitmap or a video frame.
export function readPixels(source, width, height) {
  const pixels = new Uint8Array(3 * width * height);
  const canvas = document.createElement('canvas');
  canvas.width = width;
  canvas.height = Math.min(height, STRIP_ROWS);
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context.fillStyle = 'white';
  let to = 0;
  for (let top = 0; top < height; top += STRIP_ROWS) {
    context.fillRect(0, 0, width, canvas.height);
    context.drawImage(source, 0, -top);
    const { data } = context.getImageData(0, 0, width, Math.min(STRIP_ROWS, height - top));
    for (let from = 0; from < data.length; from += 4) {
      pixels[to++] = data[from];
      pixels[to++] = data[from + 1];
      pixels[to++] = data[from + 2];
    }
  }
  return { width, height, pixels };
}

// Bytes of RGB as the model takes them. `preprocessing` is the block of edge_package.json: the image is resized until it covers `resize_px`
// (to exactly that without `keep_aspect`), then the centre of `crop_px` is cut out. With `pad`, instead: it is resized until it fits, and the
// rest is filled with that value.
export function preprocess(image, preprocessing) {
  const { interpolation, keep_aspect: keepAspect, pad } = preprocessing;
  const [resize, crop] = [sides(preprocessing.resize_px), sides(preprocessing.crop_px)];
  const [height, width] = keepAspect ? withAspect(image, resize, pad !== undefined) : resize;
  const resized = resized8(image, width, height, interpolation);
  return pad === undefined ? cropped(resized, crop) : padded(resized, crop, pad);
}

// [height, width]
const sides = (size) => (Array.isArray(size) ? size : [size, size]);

// The side that is left free is rounded down.
function withAspect(image, [high, wide], pads) {
  const isWider = image.width * high > image.height * wide;
  if (isWider !== pads) return [high, Math.max(1, Math.floor((high * image.width) / image.height))];
  return [Math.max(1, Math.floor((wide * image.height) / image.width)), wide];
}

// Pillow's `Image.resize`: antialiased, in 8-bit fixed point, along one side and then along the other, rounded in between. The width comes
// first, unless the height loses more than twice as many pixels: so Pillow 13 has it.
function resized8(image, width, height, interpolation) {
  const heightFirst = height < image.height && image.height - height > 2 * (image.width - width);
  if (heightFirst) return resizedWidth(resizedHeight(image, height, interpolation), width, interpolation);
  return resizedHeight(resizedWidth(image, width, interpolation), height, interpolation);
}

// For each target pixel where its source pixels start, how many there are, and their weights in fixed point.
function weightsOf(sourceSize, targetSize, interpolation) {
  const filter = FILTERS[interpolation];
  const scale = sourceSize / targetSize;
  const filterScale = Math.max(scale, 1);
  const support = filter.support * filterScale;
  const stride = Math.ceil(support) * 2 + 1;
  const starts = new Int32Array(targetSize);
  const counts = new Int32Array(targetSize);
  const values = new Int32Array(targetSize * stride);
  const weights = new Float64Array(stride);
  for (let target = 0; target < targetSize; target++) {
    const center = (target + 0.5) * scale;
    const start = Math.max(Math.trunc(center - support + 0.5), 0);
    const count = Math.min(Math.trunc(center + support + 0.5), sourceSize) - start;
    let sum = 0;
    for (let index = 0; index < count; index++) {
      weights[index] = filter.weight(Math.abs((index + start - center + 0.5) * (1 / filterScale)));
      sum += weights[index];
    }
    for (let index = 0; index < count; index++) {
      const weight = (sum === 0 ? weights[index] : weights[index] / sum) * (1 << PRECISION_BITS);
      values[target * stride + index] = Math.trunc(weight < 0 ? weight - 0.5 : weight + 0.5);
    }
    starts[target] = start;
    counts[target] = count;
  }
  return { starts, counts, values, stride };
}

function resizedWidth(image, width, interpolation) {
  if (width === image.width) return image;
  const weights = weightsOf(image.width, width, interpolation);
  const pixels = new Uint8Array(3 * width * image.height);
  let to = 0;
  for (let y = 0; y < image.height; y++) {
    const row = 3 * y * image.width;
    for (let x = 0; x < width; x++, to += 3) weighted(image.pixels, row + 3 * weights.starts[x], 3, weights, x, pixels, to);
  }
  return { width, height: image.height, pixels };
}

function resizedHeight(image, height, interpolation) {
  if (height === image.height) return image;
  const weights = weightsOf(image.height, height, interpolation);
  const rowBytes = 3 * image.width;
  const pixels = new Uint8Array(rowBytes * height);
  let to = 0;
  for (let y = 0; y < height; y++) {
    const row = weights.starts[y] * rowBytes;
    for (let x = 0; x < image.width; x++, to += 3) weighted(image.pixels, row + 3 * x, rowBytes, weights, y, pixels, to);
  }
  return { width: image.width, height, pixels };
}

// One target pixel from source pixels `step` bytes apart, the first at `from`.
function weighted(source, from, step, weights, target, pixels, to) {
  let red = 1 << (PRECISION_BITS - 1);
  let green = red;
  let blue = red;
  const first = target * weights.stride;
  for (let index = first, at = from; index < first + weights.counts[target]; index++, at += step) {
    const weight = weights.values[index];
    red += source[at] * weight;
    green += source[at + 1] * weight;
    blue += source[at + 2] * weight;
  }
  pixels[to] = clipped(red >> PRECISION_BITS);
  pixels[to + 1] = clipped(green >> PRECISION_BITS);
  pixels[to + 2] = clipped(blue >> PRECISION_BITS);
}

const clipped = (value) => (value < 0 ? 0 : value > 255 ? 255 : value);

// The centre; an odd margin is split half to even, as Python's `round` does.
function cropped(image, [height, width]) {
  const [left, top] = [halfToEven(image.width - width), halfToEven(image.height - height)];
  const pixels = new Uint8Array(3 * width * height);
  for (let y = 0; y < height; y++) {
    const from = 3 * ((top + y) * image.width + left);
    pixels.set(image.pixels.subarray(from, from + 3 * width), 3 * width * y);
  }
  return pixels;
}

// In the middle of pixels of one value, an odd margin's larger half at the right and at the bottom.
function padded(image, [height, width], value) {
  const [left, top] = [Math.floor((width - image.width) / 2), Math.floor((height - image.height) / 2)];
  const pixels = new Uint8Array(3 * width * height).fill(value);
  for (let y = 0; y < image.height; y++) {
    const row = image.pixels.subarray(3 * y * image.width, 3 * (y + 1) * image.width);
    pixels.set(row, 3 * ((top + y) * width + left));
  }
  return pixels;
}

function halfToEven(margin) {
  const half = Math.floor(margin / 2);
  return margin % 2 === 0 || half % 2 === 0 ? half : half + 1;
}
