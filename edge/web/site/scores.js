// What a model's output says, as the Android app reads it.

// `one` names one of the numbers; `activation` makes probabilities of them where they are scores
export const MEANINGS = {
  classes: { one: 'class', activation: softmax },
  labels: { one: 'label', activation: sigmoid },
  values: { one: 'value', activation: null },
  features: { one: 'feature', activation: null },
};

export function softmax(logits) {
  const largest = logits.reduce((most, value) => Math.max(most, value), -Infinity);
  const powers = Float64Array.from(logits, (value) => Math.exp(value - largest));
  const sum = powers.reduce((total, value) => total + value, 0);
  return powers.map((value) => value / sum);
}

export function sigmoid(logits) {
  return Float64Array.from(logits, (value) => 1 / (1 + Math.exp(-value)));
}

// The model as each of its outputs has it: the first, then the further ones of a file with several, with `output` and `golden` of their own.
export const views = (model) => [
  model,
  ...(model.other_outputs ?? []).map((output) => ({ ...model, output, golden: output.golden, classes: output.shape.at(-1) })),
];

export const meaningOf = (model) => MEANINGS[model.output.meaning ?? 'classes'];

// Indices of the largest, best first; of equal ones the lower index comes first. NaN is never among the best of numbers.
export function topK(scores, count) {
  const rank = (index) => (Number.isNaN(scores[index]) ? -Infinity : scores[index]);
  return Array.from(scores.keys())
    .sort((a, b) => (rank(a) === rank(b) ? a - b : rank(b) - rank(a)))
    .slice(0, count);
}

// A model's output: of classes and labels as probabilities, values and features as they are.
export function realNumbers(model, output) {
  const { activation } = meaningOf(model);
  return model.output.activation !== null || activation === null ? Float64Array.from(output) : activation(output);
}

// What is worth showing: the best classes or labels, the first values, or the features furthest from zero, as [{index, label, score}].
export function topScores(model, labels, output, count = 5) {
  const numbers = realNumbers(model, output);
  const { one, activation } = meaningOf(model);
  let shown = topK(activation === null ? numbers.map(Math.abs) : numbers, count);
  if (model.output.meaning === 'values') shown = Array.from(numbers.keys()).slice(0, count);
  return shown.map((index) => ({ index, label: labels?.[index % model.classes] ?? `${one} ${index}`, score: numbers[index] }));
}
