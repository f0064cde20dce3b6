# What holds a pod's namespaces open: catatonit does that, too.
FROM scratch
COPY catatonit /catatonit
USER 65532
ENTRYPOINT ["/catatonit", "-P"]
