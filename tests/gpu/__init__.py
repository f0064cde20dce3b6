"""Tests of the trainers on a real GPU in eight minutes; on a CPU, a smaller version of them.

``run.sh`` runs this on a machine without a network: it uses nothing of the project's environment, no pytest either.
"""
