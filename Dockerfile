# The commands in a container: docker build -t edge . && docker run --rm -v "$PWD:/files" edge edge.ship --variant nano32
FROM python:3.12-slim
WORKDIR /src
COPY pyproject.toml README.md LICENSE MANIFEST.in ./
COPY tfvit tfvit
COPY calibration calibration
COPY edge edge
RUN pip install --no-cache-dir '.[edge,report]'
WORKDIR /files
ENTRYPOINT ["python", "-m"]
CMD ["edge"]
