"""What the autograd engine writes into a trace: the names of the events of backward, and how they are nested.

The engine wraps each node of the graph that it runs. A node wraps the operators that compute its gradient:

    autograd::engine::evaluate_function: MmBackward0                          NODE_CALL
        MmBackward0                                                           NODE
            aten::mm
    autograd::engine::evaluate_function: torch::autograd::AccumulateGrad      ACCUMULATE_CALL (and NODE_CALL)
        torch::autograd::AccumulateGrad                                       ACCUMULATE (and NODE)
            aten::add_                                                        only if there is an older gradient
"""

from __future__ import annotations

import re

# The engine runs a node: everything inside is backward, recomputation included.
NODE_CALL = re.compile(r"^autograd::engine::evaluate_function: ")
# A node that runs its gradient, the user's autograd.Function included.
NODE = re.compile(r"(Backward\d*|^torch::autograd::\w+)$")
# A node of one of torch's own operators; a Function in Python (the user's, a checkpoint's) has no number after its name.
FORMULA_NODE = re.compile(r"^\w+Backward\d+$")
# A gradient is handed to its parameter: to the grad attribute, or to what hooks it.
ACCUMULATE_CALL = re.compile(rf"{NODE_CALL.pattern}torch::autograd::AccumulateGrad$")
ACCUMULATE = re.compile(r"^torch::autograd::AccumulateGrad$")
# Writing into a view adds two nodes: the operator's own, and with the next number this one, which no operator carries.
COPY_SLICES_CALL = re.compile(rf"{NODE_CALL.pattern}torch::autograd::CopySlices$")
ROOT = re.compile(r"^aten::ones_like$")  # backward() starts with the gradient of the loss, which is one
