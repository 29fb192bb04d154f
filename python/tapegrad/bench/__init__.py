"""How fast, on what, compared with what: ``tapegrad bench`` measures tapegrad and whatever else is installed.

``workloads`` says what is done and ``engines`` by whom; ``harness`` checks that all compute the same and takes the
times; ``results`` keeps every sample, and ``report``, ``plot``, ``readme`` and ``compare`` show them.
"""
