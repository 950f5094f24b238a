# One image with both programs: `penstock` (broker and command line) and `penstock-operator`.
#
# `tools/build-image` fills build/wheels and calls this; the build itself fetches no Python package. Any base image
# with Python 3.11 or later works; on Debian and its relatives Python is installed where the base has none.
ARG BASE=debian:bookworm-slim

FROM $BASE AS python
RUN command -v python3 >/dev/null || { \
      apt-get update && \
      apt-get install -y --no-install-recommends python3 && \
      rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log; }

FROM python AS installed
RUN python3 -c 'import ensurepip' 2>/dev/null || { \
      apt-get update && apt-get install -y --no-install-recommends python3-venv; }
COPY build/wheels /wheels
RUN python3 -m venv /opt/penstock && \
    /opt/penstock/bin/python -m pip install --quiet --no-index --find-links /wheels --no-cache-dir \
      --disable-pip-version-check 'penstock[operator,compression,otel]' && \
    /opt/penstock/bin/python -m pip uninstall --quiet --yes pip setuptools

FROM python
COPY --from=installed /opt/penstock /opt/penstock
# Output of a container is read line by line, and its file system is read-only.
ENV PATH=/opt/penstock/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
EXPOSE 9092 8080 8081
ENTRYPOINT ["penstock"]
