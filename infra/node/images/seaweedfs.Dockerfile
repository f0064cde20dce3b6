ARG BASE
FROM ${BASE}
COPY weed /usr/local/bin/weed
RUN mkdir /data && chown 65532 /data
USER 65532
ENTRYPOINT ["/usr/local/bin/weed"]
