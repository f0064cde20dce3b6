ARG BASE
FROM ${BASE}
RUN apt-get update && apt-get install --yes --no-install-recommends postgresql-15 && rm -rf /var/lib/apt/lists/*
ENV PATH=/usr/lib/postgresql/15/bin:$PATH
RUN mkdir -p /data /run/postgresql && chown -R postgres /data /run/postgresql
USER 101
