# CPU:   docker build -t frechet .
# CUDA:  docker build -t frechet --build-arg BASE=pytorch/pytorch:2.8.0-cuda12.8-cudnn9-runtime --build-arg EXTRAS=torch,report .
# Use:   docker run --rm -v "$PWD:/data" frechet score samples/ reference/ --extractor efficientnet-lite0
ARG BASE=python:3.12-slim
FROM ${BASE}
ARG EXTRAS=offline,report
COPY pyproject.toml README.md LICENSE /source/
COPY src /source/src
RUN pip install --no-cache-dir "/source[${EXTRAS}]" && rm -r /source
WORKDIR /data
ENTRYPOINT ["frechet"]
CMD ["--help"]
