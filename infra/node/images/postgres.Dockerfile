ARG BASE
FROM ${BASE}
# The package makes no cluster: the container does, in its own volume.
RUN mkdir -p /etc/postgresql-common && echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf \
    && apt-get update && apt-get install --yes --no-install-recommends postgresql-15 && rm -rf /var/lib/apt/lists/*
ENV PATH=/usr/lib/postgresql/15/bin:$PATH
RUN mkdir -p /data && chown postgres /data
USER 100
