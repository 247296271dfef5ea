"""The gradients of the alphas, of first and second order, and their optimizer.

Liu et al., "DARTS: Differentiable Architecture Search", ICLR 2019 (arXiv 1806.09055), section 2.3. With the weights w,
the alphas a, the losses L_train and L_val of a batch of each half, and the current learning rate eta:

    order 1   grad_a L_val(w, a)
    order 2   grad_a L_val(w', a)  -  eta * (grad_a L_train(w+, a) - grad_a L_train(w-, a)) / (2 R)

              w' = w - eta * (momentum * velocity + grad_w L_train(w, a) + decay * w)   a step ahead, not clipped
              v = grad_w' L_val(w', a)      w+- = w +- R * v      R = 0.01 / |v|

The second term is the product of a matrix of second derivatives and a vector, by a finite difference. Order 2 takes
four passes, order 1 one.

With several processes each gradient is summed over them before it is used. So w', the norm of v and w+- are those of
the whole batch, and equal in all processes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import paddle
from paddle import nn

from mobilenext.job import Batch, Setup
from mobilenext.search.recipes import SearchRecipe
from mobilenext.training.optimization import Arrays, decays, drop_gradients, optimizer_state, restore_optimizer
from mobilenext.training.stepper import GradientStep, add_gradients

FINITE_DIFFERENCE = 0.01  # R * |v|
PASSES = {1: 1, 2: 4}  # through the network, of a step of the alphas by its order

# The term that is added to the loss of the alphas: from them and the epoch to a number; None where there is none.
Regularizer = Callable[[Mapping[str, paddle.Tensor], int], "paddle.Tensor | None"]
Gradients = list["paddle.Tensor | None"]


@contextlib.contextmanager
def frozen(parameters: Sequence[paddle.Tensor]) -> Iterator[None]:
    """Let passes inside compute no gradients for these parameters, which makes them cheaper."""
    for parameter in parameters:
        parameter.stop_gradient = True
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.stop_gradient = False


@contextlib.contextmanager
def _still(norms: Sequence[nn.BatchNorm2D]) -> Iterator[None]:
    """Let passes inside leave the running statistics of batch norms as they are, to the bit.

    Paddle's momentum is the share of the old statistics: with 1 they stay, if those of the batch are finite. A
    super-network has many hundred of them, so copies would take a twentieth of a step; so would setting the attributes
    of layers, which Paddle looks at.
    """
    momenta = [norm._momentum for norm in norms]
    for norm in norms:
        vars(norm)["_momentum"] = 1.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            vars(norm)["_momentum"] = momentum


class Architect:
    """Makes the steps of the alphas."""

    def __init__(
        self,
        setup: Setup,
        network: nn.Layer,
        descent: GradientStep,
        weights: Sequence[paddle.Tensor],
        alphas: Mapping[str, paddle.Tensor],
        regularizer: Regularizer = lambda alphas, epoch: None,
    ) -> None:
        """Prepare to change `alphas`, which are parameters of `network` as `weights` are.

        Args:
            setup: of the run; its recipe is a `SearchRecipe`.
            network: the super-network, in training mode.
            descent: what changes the weights: order 2 looks a step of it ahead.
            weights: all parameters that are trained but the alphas.
            alphas: by name.
            regularizer: a term of the loss that depends on the alphas alone.
        """
        recipe = setup.recipe
        assert isinstance(recipe, SearchRecipe)
        self._setup, self._recipe, self._network, self._descent = setup, recipe, network, descent
        self._weights, self._alphas, self._regularizer = list(weights), dict(alphas), regularizer
        self._norms = [layer for layer in network.sublayers() if isinstance(layer, nn.BatchNorm2D)]
        self._optimizer = paddle.optimizer.Adam(
            recipe.alpha_lr, recipe.alpha_beta1, recipe.alpha_beta2, parameters=list(self._alphas.values()),
            weight_decay=recipe.alpha_decay,  # a number is PyTorch's L2: it is added to the gradient
        )  # fmt: skip

    def step(self, train: Batch, validation: Batch, rate: float, epoch: int) -> None:
        """Change the alphas by one step; weights and running statistics are as before it.

        Args:
            train: this process' part of the batch that the weights learn from in this step.
            validation: its part of a batch of the other half.
            rate: the learning rate of the weights, by which order 2 looks ahead.
            epoch: from 0.
        """
        for name, gradient in self.gradients(train, validation, rate, epoch).items():
            # Where a choice has drawn to leave its block out, its alphas have no part in the pass. Their gradient is 0,
            # also in the first step of a process that goes on with a search: Adam's averages fade, and move them on.
            self._alphas[name].grad = paddle.zeros_like(self._alphas[name]) if gradient is None else gradient
        self._optimizer.step()
        drop_gradients(self._alphas.values())

    def gradients(
        self, train: Batch, validation: Batch, rate: float, epoch: int = 0
    ) -> Mapping[str, paddle.Tensor | None]:
        """Return the gradients of the alphas by their names, with those of the regularizer; see :meth:`step`."""
        with _still(self._norms):
            gradients = self._first(validation) if self._recipe.order == 1 else self._second(train, validation, rate)
        terms = self._of_terms(epoch)  # once for all processes, so they are not summed
        return {
            name: term if gradient is None else gradient if term is None else gradient + term
            for name, gradient, term in zip(self._alphas, gradients, terms, strict=True)
        }

    def _of_terms(self, epoch: int) -> Gradients:
        """Return the gradients of the regularizer."""
        alphas = list(self._alphas.values())
        term = self._regularizer(self._alphas, epoch)
        if term is None:
            return [None] * len(alphas)
        gradients: Gradients = paddle.grad(term, alphas, allow_unused=True)
        return gradients

    def state(self) -> Arrays:
        """Return the optimizer's tensors by ``alphas/accumulator``; nothing before its first step."""
        return {name: tensor.numpy() for name, tensor in optimizer_state(self._optimizer, self._network).items()}

    def restore(self, state: Arrays) -> None:
        """Take over what `state` returned, before the first step."""
        restore_optimizer(self._optimizer, self._network, state)

    # The two orders.

    def _first(self, validation: Batch) -> Gradients:
        with frozen(self._weights):
            return self._pass(validation, list(self._alphas.values()))

    def _second(self, train: Batch, validation: Batch, rate: float) -> Gradients:
        alphas, weights = list(self._alphas.values()), self._weights
        with self._kept(weights):
            with frozen(alphas):
                self._look_ahead(self._pass(train, weights), rate)
            both = self._pass(validation, [*alphas, *weights])
            of_alphas, vector = both[: len(alphas)], both[len(alphas) :]
        radius = FINITE_DIFFERENCE / _norm(vector)
        sides = []
        for sign in (1, -1):
            with self._kept(weights), frozen(weights):
                for weight, direction in zip(weights, vector, strict=True):
                    if direction is not None:
                        weight.set_value(weight + sign * radius * direction)
                sides.append(self._pass(train, alphas))
        return [
            None if own is None else own - rate * (plus - minus) / (2 * radius)
            for own, plus, minus in zip(of_alphas, *sides, strict=True)
        ]

    @paddle.no_grad()  # type: ignore[untyped-decorator]
    def _look_ahead(self, gradients: Gradients, rate: float) -> None:
        """Move the weights by the step that the descent would make on these gradients, without clipping."""
        recipe, velocities = self._recipe, self._descent.velocities()
        for weight, gradient in zip(self._weights, gradients, strict=True):
            step = paddle.zeros_like(weight) if gradient is None else gradient
            if decays(recipe, weight):
                step = step + recipe.weight_decay * weight
            if (velocity := velocities.get(weight.name)) is not None:
                step = step + recipe.momentum * velocity
            weight.set_value(weight - rate * step)

    def _pass(self, batch: Batch, parameters: Sequence[paddle.Tensor]) -> Gradients:
        """Return the gradients of the mean loss over the batch of all processes; None where there is none."""
        add_gradients(self._setup, self._network, batch)
        self._setup.ranks.sum_gradients(parameters)
        gradients = [None if parameter.grad is None else parameter.grad.clone() for parameter in parameters]
        drop_gradients(parameters)
        return gradients

    @contextlib.contextmanager
    def _kept(self, tensors: Sequence[paddle.Tensor]) -> Iterator[None]:
        """Give tensors their values again afterwards, from copies: adding and taking away would round."""
        copies = [tensor.detach().clone() for tensor in tensors]
        try:
            yield
        finally:
            with paddle.no_grad():
                for tensor, copy in zip(tensors, copies, strict=True):
                    tensor.set_value(copy)


def _norm(gradients: Gradients) -> float:
    """Return the norm of all gradients together."""
    squares = [gradient.square().sum() for gradient in gradients if gradient is not None]
    return float(paddle.add_n(squares).sqrt().item())
