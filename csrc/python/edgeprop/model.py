"""Run a model on the device: predict, keep learning, save what was learned."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _learning, _records, _summary, _trace
from ._arrays import as_input, as_probabilities, as_values, as_weights
from ._context import Context, Weights, capacity
from ._core import ffi, lib
from ._image import Image, Port, Source
from ._labels import as_labels, is_named, numbered, plain
from .errors import Error
from .runtime import LABEL_LOSSES

__all__ = ["Model"]


class Model:
    """A model image, ready to run and, where it has trainable layers, to learn.

    Parameters
    ----------
    source : path of a `.ep` image, or its bytes
    max_memory : bytes that the image, and one sample on its way through the model, may take: an image of a few hundred
        bytes can ask for gigabytes. None: no limit

    Raises
    ------
    Error : EP_ERR_IMAGE (not an image, truncated, its parts do not fit each other), EP_ERR_CHECKSUM (changed since
        written), EP_ERR_ABI (made for another version), EP_ERR_OP, EP_ERR_ARENA (more than `max_memory`; learning may
        take more and raise it later), EP_ERR_ARG (`source` is neither a regular file nor bytes)
    OSError : the file cannot be read

    Notes
    -----
    Arrays go in and come out as batches in the layout of the ONNX model (images NCHW), whatever the device uses.

    **Errors.** Every method either does all it says or raises and leaves the model as it was.

    **Threads.** All methods may be called from several threads at once, and C code runs without the GIL. Each running
    prediction has a context (arena) of its own over the same image. What was learned is published whole at the end
    of `partial_fit`, `restore`, `reset` and `set_parameters`: a prediction sees all of it or none of it, even one of
    many chunks. Methods that change the weights wait for each other. For threads that learn apart, `clone()`.

    **Streams.** A model exported with states (`edgeprop export --state`) runs the samples it is given, one after the other,
    as the next ones of a stream, from call to call; `reset_state()` begins a new one. Threads that run it wait for each
    other; each `clone()` is a stream of its own.

    Examples
    --------
    >>> model = edgeprop.Model("digits.ep")
    >>> model.partial_fit(x, y, lr=0.01, epochs=5).score(x, y)
    0.98
    """

    def __init__(self, source: Source, *, max_memory: int | None = 1 << 29) -> None:
        if max_memory is not None:
            _learning.check_counts(max_memory=max_memory)
        self._start(Image(source, max_memory), None)

    def _start(self, image: Image, weights: Weights) -> None:
        self._image = image
        self._weights = weights
        self._idle: list[Context] = []  # append and pop are atomic
        self._change = threading.Lock()
        self._stream = threading.Lock()
        self._states: NDArray[np.uint8] | None = None  # where the stream is; None: at its start
        self._trainer: tuple[Any, Context] | None = None
        self.loss_curve_: list[float] = []
        self.skipped_ = 0

    # ---- What it is ---------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Name given at export."""
        return self._image.name

    @property
    def inputs(self) -> tuple[Port, ...]:
        """Name, shape (ONNX layout), dtype and scale of each input."""
        return self._image.inputs

    @property
    def outputs(self) -> tuple[Port, ...]:
        """Name, shape (ONNX layout), dtype and scale of each output."""
        return self._image.outputs

    @property
    def loss(self) -> str | None:
        """Name of the loss it learns with, such as "softmax_cross_entropy"; None: nothing to train."""
        return self._image.loss

    @property
    def fingerprint(self) -> str:
        """Of ops, shapes and exported weights, 16 hexadecimal digits; a saved head fits one fingerprint."""
        return self._image.fingerprint

    @property
    def loss_(self) -> float:
        """Mean loss over the last epoch of the last `partial_fit`, before each update.

        Raises
        ------
        AttributeError : `partial_fit` was not called
        """
        if not self.loss_curve_:
            raise AttributeError("loss_ is there after partial_fit")
        return self.loss_curve_[-1]

    @property
    def classes_(self) -> NDArray[Any]:
        """Names of the classes (n_classes,), texts, or 0 .. n_classes-1 where the export gave none.

        `model.classes_[model.predict(x)]` are the names of what was predicted. Where all names are numbers, such as 1, 2, 3,
        the numbers 1, 2, 3 are names too wherever labels are given.

        Raises
        ------
        AttributeError : the model is no classifier
        """
        kind = self._kind()
        if kind == "values":
            raise AttributeError(f"{self.name} is no classifier: it has no labels and its loss takes values")
        labels = self._names()
        return np.array(labels) if labels else np.arange(self._n_classes())

    def arena_size(self, batch: int = 1, *, train: bool = False, restore: bool = False, optimizer: str = "sgd") -> int:
        """Bytes of arena that a board needs.

        Parameters
        ----------
        batch : samples at once; with `train`, more than 1 means mini-batches with gradient sums
        train, restore : room to learn, or only to take up a saved head
        optimizer : "sgd", "momentum", "nesterov" or "adam"

        Raises
        ------
        Error : EP_ERR_FROZEN (nothing to train), EP_ERR_ARG
        """
        _learning.check_counts(batch=batch)
        what = lib.EP_FOR_RESTORE if restore else 0
        if train:
            what |= lib.EP_FOR_TRAIN | (lib.EP_FOR_SUMS if batch > 1 else 0)
        if (train or restore) and not self._image.trainable():
            raise Error("EP_ERR_FROZEN", f"{self.name} has nothing to train; export it with trainable layers")
        size = self._image.arena_size(
            min(batch, 0xFFFFFFFF), what, _learning.find_optimizer(optimizer) if train else ffi.NULL
        )
        if size == 0:
            raise Error("EP_ERR_ARG", f"no arena for a batch of {batch}; give fewer, so that it is less than 2 GiB")
        return size

    def summary(self) -> str:
        """A table of the layers, inputs, outputs and the memory a board needs."""
        return _summary.text(self, self._image)

    def __repr__(self) -> str:
        return f"<edgeprop.Model {self.name!r} {self.fingerprint}>"

    # ---- Forward ------------------------------------------------------------------------------------------------

    def run(self, *inputs: ArrayLike) -> list[NDArray[Any]]:
        """The outputs as the model computes them.

        Parameters
        ----------
        inputs : one array an input, (n, ...) in the ONNX layout, with the same n. Float inputs take any real dtype;
            quantized ones their integer type as it is, or floats, which are quantized.

        Returns
        -------
        one array an output, (n, ...) in the ONNX layout; float32, or the integers of a quantized output

        Raises
        ------
        Error : EP_ERR_ARG: number, shape or dtype of the inputs, no samples, NaN or infinity
        """
        ports = self._image.inputs
        if len(inputs) != len(ports):
            takes = ", ".join(port.name for port in ports)
            raise Error("EP_ERR_ARG", f"{len(inputs)} inputs given, the model takes {len(ports)}: {takes}")
        names = ["x"] if len(ports) == 1 else [port.name for port in ports]
        arrays = [as_input(x, port, name) for x, port, name in zip(inputs, ports, names, strict=True)]
        if len({len(x) for x in arrays}) != 1:
            raise Error("EP_ERR_ARG", f"inputs hold {[len(x) for x in arrays]} samples; give the same number to each")
        outputs = self._forward(arrays)
        return [port.from_device(y) for port, y in zip(self._image.outputs, outputs, strict=True)]

    def _forward(self, arrays: list[NDArray[Any]]) -> list[NDArray[Any]]:
        """`run` between device layouts, with the weights as they are now."""
        if not self._image.model.n_states:
            return self._forward_from(arrays)
        with self._stream:
            return self._forward_from(arrays)

    def _forward_from(self, arrays: list[NDArray[Any]]) -> list[NDArray[Any]]:
        """`_forward` from the states as they are; they move on."""
        weights = self._weights
        context = self._borrow(len(arrays[0]), weights)
        context.load(weights)
        if self._image.model.n_states:
            context.set_states(self._states)
        outputs = context.run(arrays)
        if self._image.model.n_states:
            self._states = context.states()
        self._idle.append(context)
        return outputs

    def _borrow(self, n: int, weights: Weights) -> Context:
        """A context that nobody else uses, with room for n samples within reason."""
        model = self._image.model
        batch = 1 if model.n_states else capacity(model.infer_bytes, n)
        what = lib.EP_FOR_RESTORE if weights is not None else 0
        try:
            context = self._idle.pop()
        except IndexError:
            return Context(self._image, batch, what)
        if context.batch >= batch and context.what & what == what:
            return context
        return Context(self._image, max(batch, context.batch), what | context.what)

    def reset_state(self) -> Model:
        """Begins a new stream: the states of the model, if it has any, are zero again. Returns the model itself."""
        with self._stream:
            self._states = None
        return self

    def decision_function(self, x: ArrayLike) -> NDArray[np.float32]:
        """Scores, the larger the likelier.

        Parameters
        ----------
        x : (n, ...), as `run` takes it

        Returns
        -------
        (n, n_classes) float32: the logits; where the model ends in a Softmax or Sigmoid, the inverse of that (for
        Softmax the logarithm, which differs from the logits by a constant a row)

        Raises
        ------
        Error : EP_ERR_ARG
        """
        return _LOGITS[self._image.ending](self._scores(x))

    def predict_proba(self, x: ArrayLike) -> NDArray[np.float32]:
        """Probability of each class.

        Parameters
        ----------
        x : (n, ...), as `run` takes it

        Returns
        -------
        (n, n_classes) float32. Rows add up to 1, but for independent labels (`sigmoid_cross_entropy` with several
        outputs).

        Raises
        ------
        Error : EP_ERR_ARG, also for a model that has no probabilities (a regressor, a hinge loss)
        """
        kind, ending = self._kind(), self._image.ending
        if kind == "values" or (ending == "logits" and self._image.purpose in ("hinge", "mse")):
            raise Error("EP_ERR_ARG", f"{self.name} gives no probabilities; use decision_function or run")
        p = self._scores(x)
        if ending in ("logits", "log_softmax"):
            p = _softmax(p) if kind == "classes" else _sigmoid(p)
        return np.hstack([1 - p, p]) if kind == "binary" else p

    def predict(self, x: ArrayLike) -> NDArray[Any]:
        """Classes, or values where the model is no classifier.

        Parameters
        ----------
        x : (n, ...), as `run` takes it

        Returns
        -------
        a classifier: (n,) class indices, int64, to be looked up in `classes_`; with independent labels
        (`sigmoid_cross_entropy` with several outputs) (n, n_classes) of 0 and 1. Otherwise the first output, (n, ...)
        float32 in the ONNX layout.

        Where all classes are named by numbers, `score` and `partial_fit` take numbers for names, so indices do not go back as
        they are: give them `model.classes_[model.predict(x)]`.

        Raises
        ------
        Error : EP_ERR_ARG
        """
        kind = self._kind()
        if kind == "values":
            return self._real(x)
        scores = self._scores(x)
        if kind == "classes":
            return np.asarray(scores.argmax(axis=1), np.int64)
        over = scores > self._threshold()
        return np.asarray(over[:, 0] if kind == "binary" else over, np.int64)

    def score(self, x: ArrayLike, y: ArrayLike) -> float:
        """Share of correct predictions of a classifier; R² of any other model.

        Parameters
        ----------
        x : (n, ...), as `run` takes it
        y : as `partial_fit` takes it

        Returns
        -------
        for several outputs the R² of all: 1 - squared errors / squared distances from each output's own mean

        Raises
        ------
        Error : EP_ERR_ARG, EP_ERR_LABEL
        """
        predicted = self.predict(x)
        kind = self._kind()
        if kind in ("classes", "binary"):
            classes = self._names(), self._n_classes()
            labels = as_labels(y, *classes, len(predicted), column=kind == "binary")
            return float(np.mean(predicted == labels))
        target = as_values(y, predicted.shape[1:], len(predicted))
        if kind == "independent":
            return float(np.mean(np.all(predicted == target, axis=1)))
        exact = target.astype(np.float64)  # in which the mean of equal targets is one of them
        residual = float(np.square(exact - predicted).sum())
        total = float(np.square(exact - exact.mean(axis=0)).sum())
        return 1 - residual / total if total else float(residual == 0)

    def _real(self, x: ArrayLike) -> NDArray[np.float32]:
        """The first output as real numbers, (n, ...) in the ONNX layout."""
        return self._image.outputs[0].real(self.run(x)[0])

    def _scores(self, x: ArrayLike) -> NDArray[np.float32]:
        """The first output as (n, n_classes)."""
        real = self._real(x)
        return real.reshape(len(real), -1)

    def _n_scores(self) -> int:
        return math.prod(self._image.outputs[0].sample_shape)

    def _n_classes(self) -> int:
        """How many classes a classifier tells apart."""
        return 2 if self._kind() == "binary" else self._n_scores()

    def _threshold(self) -> float:
        """The score from which on a label is given."""
        return 0.5 if self._image.ending == "sigmoid" else 0.0

    def _names(self) -> list[str]:
        """Names of the classes, as many as there are, or none. A single one of two is that of what is looked for."""
        labels = self._image.labels
        if self._kind() == "binary" and len(labels) == 1:
            return [f"not {labels[0]}", *labels]
        return labels if len(labels) == self._n_classes() else []

    def _kind(self) -> str:
        """What a row of scores means: one of `classes`, one `binary` score, `independent` labels, or plain `values`."""
        n, loss, labels = self._n_scores(), self._image.purpose, self._image.labels
        if loss in LABEL_LOSSES:
            return "classes"
        ending = self._image.ending if loss is None and self._is_row() else ""
        sigmoid = loss == "sigmoid_cross_entropy" or ending == "sigmoid"
        if n == 1:
            return "binary" if sigmoid or len(labels) == 2 else "values"
        if sigmoid:
            return "independent"
        return "classes" if len(labels) == n or ending in ("softmax", "log_softmax") else "values"

    def _is_row(self) -> bool:
        """True where a sample's scores are one row; those of a picture or a sequence are many."""
        return max(self._image.outputs[0].sample_shape, default=1) == self._n_scores()

    # ---- Learning -----------------------------------------------------------------------------------------------

    def partial_fit(
        self,
        x: ArrayLike,
        y: ArrayLike,
        *,
        lr: float = 0.01,
        optimizer: str = "sgd",
        batch_size: int = 1,
        epochs: int = 1,
        momentum: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        clip_norm: float = 0.0,
        shuffle: bool = False,
        seed: int = 0,
        skip_below: float = 0.0,
        skip_share: float = 0.0,
    ) -> Model:
        """Learns from samples, starting from what it knows.

        Parameters
        ----------
        x : (n, ...), as `run` takes it
        y : for a loss on labels, and for a classifier of one output: (n,) names of classes, as texts, bytes or, where all
            classes are named by numbers, numbers; else (n,) integers, indices into `classes_`. For a loss on values the
            targets, (n, ...) real numbers in the shape of the output; from 0 to 1 for `sigmoid_cross_entropy`
        lr : learning rate, > 0
        optimizer : "sgd", "momentum", "nesterov" or "adam"
        batch_size : samples a step; 1 updates in place, as a board with little memory does
        epochs : passes over the samples
        momentum : momentum, or Adam's beta1; between 0 and 1
        beta2, epsilon : Adam's
        weight_decay : L2: adds weight_decay * w to the gradient
        clip_norm : largest norm of the whole gradient of a step; 0: no limit
        shuffle : a new order every epoch, drawn from `seed`
        skip_below : samples with a smaller loss are not learned from, which saves their backward pass; 0: none are
        skip_share : about this share of the samples, those with the smallest losses lately, is not learned from (Jiang
            et al. 2019, selective backprop); 0 to 0.99. Both only with a batch_size of 1 and no clip_norm

        Returns
        -------
        the model itself; mean losses of the epochs are in `loss_curve_`, how many samples were skipped in `skipped_`

        Raises
        ------
        Error : EP_ERR_ARG, EP_ERR_FROZEN (nothing to train), EP_ERR_LABEL (not a class), EP_ERR_DIVERGED (a weight
            would not be finite). Nothing is learned then, not even from the samples before the bad one.

        Notes
        -----
        The state of an optimizer (velocity, moments) lives on from call to call, as long as `optimizer`, `batch_size`
        and whether there is a `clip_norm` stay the same and nobody else changes the weights.

        A model with states learns each sample from where its stream is, and leaves the stream there.
        """
        xs, targets = self._samples(x, y)
        _learning.check_counts(batch_size=batch_size, epochs=epochs)
        step = _learning.make_step(
            lr, optimizer, momentum, beta2, epsilon, weight_decay, clip_norm, skip_below, skip_share
        )
        key = (optimizer, batch_size, batch_size > 1 or clip_norm > 0)
        if key[-1] and step.skip != ffi.NULL:
            both = "skip_below and skip_share look at single samples"
            raise Error("EP_ERR_ARG", f"{both}; give batch_size=1 and no clip_norm, or neither of them")
        batch = min(batch_size, len(xs)) if key[-1] else 0
        random = _learning.make_random(seed)
        with self._change:
            trainer = self._borrow_trainer(key)
            trainer.set_states(self._states)
            before = trainer.snapshot()
            trainer.ep.skipped = 0
            try:
                curve = []
                for _ in range(epochs):
                    order = random.permutation(len(xs)) if shuffle else slice(None)
                    curve.append(_learning.epoch(trainer, xs[order], targets[order], step, batch))
                learned = trainer.params()
            except BaseException:
                trainer.rollback(before)
                raise
            trainer.weights = self._weights = learned
            self._trainer = key, trainer
            self.loss_curve_, self.skipped_ = curve, int(trainer.ep.skipped)
        return self

    def _samples(self, x: ArrayLike, y: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
        """Samples and targets as C takes them, (n, count) in the device's layout and (n,) or (n, count)."""
        image = self._image
        if not image.trainable() or image.model.train == ffi.NULL:
            raise Error("EP_ERR_FROZEN", f"{self.name} has nothing to train; export it with trainable layers")
        if len(image.inputs) != 1:
            raise Error("EP_ERR_ARG", f"{self.name} has {len(image.inputs)} inputs; only models of one input learn")
        xs = as_input(x, image.inputs[0])
        targets = self._targets(y, len(xs))
        image.check_sizes(xs, targets)
        return xs, targets

    def _targets(self, y: ArrayLike, n: int) -> NDArray[Any]:
        """Targets as the loss takes them: labels (n,) int32, or (n, count) float32 in the device's layout."""
        image, kind = self._image, self._kind()
        if image.takes_labels:
            return as_labels(y, self._names(), self._n_classes(), n)
        if kind == "binary" and self._takes_names(y):
            labels = as_labels(y, self._names(), 2, n, column=True).astype(np.float32).reshape(-1, 1)
            # Values learn one class as 1, the other on the other side of the threshold.
            return 2 * labels - 1 if self.loss == "mse" and self._threshold() == 0 else labels
        output = image.outputs[0]
        take = as_probabilities if self.loss == "sigmoid_cross_entropy" else as_values
        return output.to_device(take(y, output.sample_shape, n))

    def _takes_names(self, y: ArrayLike) -> bool:
        """True where targets of a binary classifier are labels, not probabilities or values."""
        if is_named(y) or list(numbered(self._names())) not in ([], [0, 1]):
            return True
        # As values, 0 and 1 would lie on the same side of a threshold of 0, or on it.
        given = plain(y)
        return self._threshold() == 0 and self.loss == "mse" and given.dtype.kind in "iu" and not (given >> 1).any()

    def _borrow_trainer(self, key: tuple[str, int, bool]) -> Context:
        """The context that learned last, if it was made for this; it holds the weights as they are now."""
        optimizer, batch_size, sums = key
        if self._trainer is not None and self._trainer[0] == key:
            trainer = self._trainer[1]
        else:
            batch = capacity(self._image.model.train.bytes, batch_size)
            what = lib.EP_FOR_TRAIN | (lib.EP_FOR_SUMS if sums else 0)
            trainer = Context(self._image, batch, what, _learning.find_optimizer(optimizer))
        trainer.load(self._weights)
        return trainer

    # ---- The weights --------------------------------------------------------------------------------------------

    def parameters(self) -> dict[str, NDArray[np.float32]]:
        """Copies of the trainable weights by name, in the device's layout (see edgeprop.h): dense (n_out, n_in),
        convolution (out_c, kernel_h, kernel_w, in_c / groups). Empty where nothing trains."""
        flat, image = self._flat(), self._image
        parts = image.split(flat)
        return {image.tensor_name(i): part.copy() for i, part in parts.items()}

    def set_parameters(self, values: Mapping[str, ArrayLike]) -> None:
        """Sets trainable weights; those not named stay.

        Parameters
        ----------
        values : arrays by name, in the shapes that `parameters` gives

        Raises
        ------
        Error : EP_ERR_ARG (unknown name, wrong shape or dtype), EP_ERR_DIVERGED (not finite)
        """
        if not isinstance(values, Mapping):
            raise Error("EP_ERR_ARG", f"weights are a {type(values).__name__}; give a dict of arrays by name")
        with self._change:
            flat = self._flat()
            named = {self._image.tensor_name(i): part for i, part in self._image.split(flat).items()}
            for name, value in values.items():
                if name not in named:
                    raise Error("EP_ERR_ARG", f"no trainable weight {name!r}; there are {', '.join(named) or 'none'}")
                named[name][...] = as_weights(value, named[name].shape, name)
            self._publish(self._restorable(flat))

    def _flat(self) -> NDArray[np.float32]:
        """A copy of all trainable weights, (n,), in the order of the runtime."""
        return self._restorable(self._weights).params() if self._image.trainable() else np.empty(0, np.float32)

    def _restorable(self, weights: Weights) -> Context:
        context = Context(self._image, 1, lib.EP_FOR_RESTORE)
        context.load(weights)
        return context

    def _publish(self, context: Context | None) -> None:
        """Makes the weights of `context` (None: as exported) everybody's; the optimizer starts afresh."""
        self._weights = None if context is None else context.params()
        self._trainer = None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Saves what was learned, and only that, as a record of a few hundred bytes and the trainable weights.

        The file is written beside, flushed to the disk and renamed: whatever happens, `path` is the older record or
        the new one, whole. It keeps its mode and owner; what a killed process left beside it is removed.

        Raises
        ------
        Error : EP_ERR_FROZEN (nothing to train), EP_ERR_ARG (`path` is no regular file, or one that is no saved head)
        OSError : the file cannot be written
        """
        _records.save(self._restorable(self._weights), path)

    def check_save(self, path: str | os.PathLike[str]) -> None:
        """Raises what `save` would raise, and changes nothing: to be asked before long learning."""
        _records.check_save(self._restorable(self._weights), path)

    def restore(self, path: str | os.PathLike[str]) -> Model:
        """Takes up what `save` saved. A stream begins anew, as in C: its states are in no record.

        Returns
        -------
        the model itself

        Raises
        ------
        Error : EP_ERR_NO_RECORD (no record, truncated, changed), EP_ERR_FOREIGN (of another model, of any size),
            EP_ERR_FROZEN
        OSError : the file cannot be read
        """
        with self._change:
            context = self._restorable(None)
            _records.restore(context, path)
            self._publish(context)
        return self.reset_state()

    def reset(self) -> Model:
        """Forgets what was learned: the weights as exported. Returns the model itself."""
        with self._change:
            self._publish(None)
        return self

    def clone(self) -> Model:
        """Another model over the same image, which starts from the weights as they are now and then learns apart."""
        twin = type(self).__new__(type(self))
        twin._start(self._image, self._weights)
        return twin

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self._image.bytes.tobytes(), self._weights, self._image.max_memory)

    # ---- Looking inside -----------------------------------------------------------------------------------------

    def trace(self, x: ArrayLike) -> dict[str, NDArray[Any]]:
        """Every activation, as each op computed it.

        Parameters
        ----------
        x : (n, ...), as `run` takes it; the model has one input

        Returns
        -------
        (n, *shape) by tensor name, in the device's layout (NHWC) and dtype

        Raises
        ------
        Error : EP_ERR_ARG

        Notes
        -----
        A model with states starts each sample from where its stream is, and leaves the stream there.
        """
        if len(self._image.inputs) != 1:
            raise Error("EP_ERR_ARG", f"{self.name} has {len(self._image.inputs)} inputs; trace takes models of one")
        return _trace.activations(self._image, self._weights, self._states, as_input(x, self._image.inputs[0]))

    def gradients(self, x: ArrayLike, y: ArrayLike) -> dict[str, NDArray[np.float32]]:
        """Gradients of the mean loss over all samples, by the weights and by the activations behind them.

        Parameters
        ----------
        x, y : as `partial_fit` takes them

        Returns
        -------
        by tensor name, in the device's layout: of each trainable weight in its shape, and (n, *shape) of each
        activation that the backward walk passes

        Raises
        ------
        Error : as `partial_fit`

        Notes
        -----
        Those that `partial_fit` learns by: a model with states starts each sample from where its stream is.
        """
        xs, targets = self._samples(x, y)
        return _trace.gradients(self._image, self._weights, self._states, xs, targets)


def _rebuild(cls: type[Model], image: bytes, weights: Weights, max_memory: int | None = 1 << 29) -> Model:
    model = cls.__new__(cls)
    model._start(Image(image, max_memory), weights)
    return model


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True), np.float32)


def _sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)), np.float32)


def _log(p: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logarithm of probabilities; of 0, which int8 rounds small ones to, that of the smallest float32."""
    return np.asarray(np.log(np.maximum(p, np.finfo(np.float32).tiny)), np.float32)


#: logits from what a model ends in
_LOGITS: dict[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]] = {
    "logits": lambda scores: scores,
    "log_softmax": lambda scores: scores,
    "softmax": _log,
    "sigmoid": lambda p: _log(p) - _log(1 - p),
}
