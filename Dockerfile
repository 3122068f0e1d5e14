# The image of every pod or machine of a Ray cluster that runs raymill: head, workers and jobs.
#
#   docker build -t raymill:0.1.0 .
#
# On machines without GPUs a build of PyTorch for CPUs saves some gigabytes: give its package index as
# --build-arg PIP_EXTRA_INDEX_URL=...
FROM python:3.11-slim

# KubeRay's probes call bash and wget; Ray looks at processes with ps.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends procps wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --user-group --create-home ray

ARG PIP_EXTRA_INDEX_URL
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1

# What raymill needs, in a layer that changes only with the pins.
WORKDIR /src
COPY pyproject.toml constraints.txt ./
RUN python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
print(*p['dependencies'], *p['optional-dependencies']['server'], sep='\n')" > requirements.txt \
    && pip install --constraint constraints.txt --requirement requirements.txt

COPY README.md apps.yaml ./
COPY platform platform
COPY src src
RUN pip install --no-deps . && rm -rf /src/*

USER 1000:1000
WORKDIR /home/ray
ENV RAYMILL_HOME=/home/ray/.raymill
CMD ["raymill", "--help"]
