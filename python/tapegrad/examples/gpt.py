"""A character GPT of one layer, in plain Python over Value: it learns a list of words and then makes up its own.

Every number of the network is a Value, and every multiplication of every matrix product is a Python operation: nothing
here knows of arrays. With the built-in words there are 27 tokens and 4,192 parameters, and a step makes about 60,000
nodes. `--engine reference` runs the same file on tapegrad's pure-Python Value and prints the same losses.

    python -m tapegrad.examples.gpt --steps 500
"""

from __future__ import annotations

import argparse
import importlib
import math
import random
import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, TypeAlias

Value: TypeAlias = Any  # of whichever engine was chosen
Vector: TypeAlias = list[Value]
Matrix: TypeAlias = list[Vector]

WORDS = """
acorn adder agate alder almond amber anchor ant apple apricot ash aspen aster avocado azalea badger balsam bamboo barley
basil bat beaver beech beetle begonia birch bison blackbird bluebell bracken bramble briar buffalo buttercup buzzard
cactus camellia carp cedar cherry chestnut chive cicada clover cobra comfrey coot coral cowslip coyote crane cricket
crocus crow curlew cypress daffodil dahlia daisy damson dandelion deer dogwood dolphin dove dragonfly eagle eel egret
elder elk elm falcon fennel fern ferret fig finch firefly flax foxglove freesia frog gazelle gecko gentian ginger
gorse goose grouse gull hare harebell hawthorn hazel heath heather hedgehog heron holly hornbeam hornet ibex ibis iris
ivy jackal jackdaw jaguar jasmine jay juniper kale kelp kestrel kingfisher kite koala lapwing larch lark laurel lavender
leek lemon lemur leopard lichen lilac lily linden linnet lizard lobelia lotus lupin lynx magpie mallow mango maple
marigold marten martin meadow medlar mimosa mink mint mole moorhen moss moth mulberry mussel myrtle narcissus nettle
newt nightjar nutmeg oak ocelot octopus olive onyx orchid oriole osprey otter owl oxlip oyster pansy parsley partridge
peach pear pebble peony perch petunia pheasant pine plover plum poplar poppy primrose puffin quail quartz quince rabbit
raven redwing reed robin rook rose rowan rush rye saffron sage salmon sedge seal shrew snipe snowdrop sorrel sparrow
spruce squirrel starling stoat stork sunflower swan swift sycamore tansy teal thistle thrush thyme tiger toad trout
tulip turtle verbena viburnum violet viper vole walnut walrus warbler weasel willow wisteria wolf wombat wren yak yarrow
yew zebra zinnia
"""

CHANNELS = 16
HEADS = 4
CONTEXT = 16
EPSILON = 1e-5


class Vocabulary:
    """The characters of some words as tokens 0, 1, 2, ...; the last token stands for a word's start and end."""

    def __init__(self, words: Sequence[str]) -> None:
        self.characters = sorted({character for word in words for character in word})
        self.boundary = len(self.characters)
        self._token = {character: token for token, character in enumerate(self.characters)}

    def __len__(self) -> int:
        return len(self.characters) + 1

    def encode(self, word: str) -> list[int]:
        """Return the word's tokens between two boundaries, cut to one context."""
        return [self.boundary, *(self._token[character] for character in word), self.boundary][: CONTEXT + 1]


class GPT:
    """Token and position embeddings, one block of attention and feed-forward layer, and a linear output.

    Normalisation is by root mean square, without learnt gains; there are no biases; the feed-forward layer is four
    times as wide and uses ReLU. Vaswani et al., "Attention is all you need" (2017); Zhang and Sennrich, "Root mean
    square layer normalization" (2019).

    Args:
        tokens: number of tokens.
        value: the Value class to compute with.
        rng: source of the initial weights, normally distributed with standard deviation 0.08.
    """

    def __init__(self, tokens: int, value: type[Value], rng: random.Random) -> None:
        def matrix(rows: int, columns: int) -> Matrix:
            return [[value(rng.gauss(0.0, 0.08)) for _ in range(columns)] for _ in range(rows)]

        self.token_embedding = matrix(tokens, CHANNELS)
        self.position_embedding = matrix(CONTEXT, CHANNELS)
        self.query, self.key, self.value, self.mix = (matrix(CHANNELS, CHANNELS) for _ in range(4))
        self.widen = matrix(4 * CHANNELS, CHANNELS)
        self.narrow = matrix(CHANNELS, 4 * CHANNELS)
        self.output = matrix(tokens, CHANNELS)

    def parameters(self) -> Vector:
        """Return every weight, in the order in which they were drawn."""
        return [p for matrix in vars(self).values() for row in matrix for p in row]

    def logits(self, token: int, position: int, keys: Matrix, values: Matrix) -> Vector:
        """Return the scores of the next token; `keys` and `values` hold the earlier positions and grow by this one."""
        x = add(self.token_embedding[token], self.position_embedding[position])
        h = normalise(x)
        query = linear(self.query, h)
        keys.append(linear(self.key, h))
        values.append(linear(self.value, h))
        size = CHANNELS // HEADS
        attended: Vector = []
        for start in range(0, CHANNELS, size):
            part = slice(start, start + size)
            weights = softmax([dot(query[part], key[part]) * size**-0.5 for key in keys])
            columns = zip(*(value[part] for value in values), strict=True)
            attended += [dot(weights, column) for column in columns]
        x = add(x, linear(self.mix, attended))
        h = linear(self.narrow, [z.relu() for z in linear(self.widen, normalise(x))])
        return linear(self.output, add(x, h))

    def loss(self, tokens: Sequence[int]) -> Value:
        """Return the mean cross-entropy, in nats, of predicting each token of a word from those before it."""
        keys: Matrix = []
        values: Matrix = []
        losses = []
        for position, (token, target) in enumerate(pairwise(tokens)):
            probabilities = softmax(self.logits(token, position, keys, values))
            losses.append(-probabilities[target].log())
        return sum(losses) * (1.0 / len(losses))

    def sample(self, boundary: int, rng: random.Random, temperature: float) -> list[int]:
        """Draw the tokens of a new word, until a boundary or the end of the context."""
        keys: Matrix = []
        values: Matrix = []
        word: list[int] = []
        token = boundary
        for position in range(CONTEXT):
            scores = [score / temperature for score in self.logits(token, position, keys, values)]
            (token,) = rng.choices(range(len(scores)), [p.data for p in softmax(scores)])
            if token == boundary:
                break
            word.append(token)
        return word


def add(x: Vector, y: Vector) -> Vector:
    return [a + b for a, b in zip(x, y, strict=True)]


def dot(x: Sequence[Value], y: Sequence[Value]) -> Value:
    return sum([a * b for a, b in zip(x, y, strict=True)])


def linear(matrix: Matrix, x: Vector) -> Vector:
    return [dot(row, x) for row in matrix]


def normalise(x: Vector) -> Vector:
    """Divide by the root mean square."""
    scale = (dot(x, x) * (1.0 / len(x)) + EPSILON) ** -0.5
    return [a * scale for a in x]


def softmax(scores: Vector) -> Vector:
    """Return probabilities in proportion to the exponentials, the largest score taken off against overflow."""
    largest = max(score.data for score in scores)
    powers = [(score - largest).exp() for score in scores]
    inverse = sum(powers) ** -1
    return [power * inverse for power in powers]


class Adam:
    """Adam with bias correction (Kingma and Ba, 2014), as a loop over numbers.

    Args:
        parameters: the Values to change.
        rate: the learning rate at the first step; it falls in a straight line to zero at step `steps`.
        steps: number of steps planned.
    """

    def __init__(self, parameters: Vector, rate: float, steps: int, beta1: float = 0.9, beta2: float = 0.99) -> None:
        self.parameters = parameters
        self.rate, self.steps = rate, steps
        self.beta1, self.beta2 = beta1, beta2
        self.mean = [0.0] * len(parameters)
        self.square = [0.0] * len(parameters)
        self.done = 0

    def step(self) -> None:
        """Move every parameter against its gradient and set the gradient to zero."""
        rate = self.rate * (1 - self.done / self.steps)
        self.done += 1
        beta1, beta2, mean, square = self.beta1, self.beta2, self.mean, self.square
        rate /= 1 - beta1**self.done
        scale = 1 / (1 - beta2**self.done)
        sqrt = math.sqrt
        for i, p in enumerate(self.parameters):
            grad = p.grad
            mean[i] = m = beta1 * mean[i] + (1 - beta1) * grad
            square[i] = s = beta2 * square[i] + (1 - beta2) * grad * grad
            p.data -= rate * m / (sqrt(s * scale) + 1e-8)
            p.grad = 0.0


def read_words(path: str | None) -> list[str]:
    """Return the words of the built-in text, or the lines of a file that are not blank.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds no line of text, or is not UTF-8.
    """
    if path is None:
        return WORDS.split()
    with open(path, encoding="utf-8") as file:
        words = [line.strip() for line in file]
    words = [word for word in words if word]
    if not words:
        raise ValueError("there is no line of text in it")
    return words


def main(argv: Sequence[str] | None = None) -> int:
    """Train, showing the loss of each step, and print some samples; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tapegrad.examples.gpt", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--text", metavar="FILE", help="learn the lines of this file instead of the built-in words")
    parser.add_argument("--steps", type=positive_int, default=500, help="words to learn from, one a step (%(default)s)")
    parser.add_argument("--samples", type=int, default=10, help="words to make up at the end (%(default)s)")
    parser.add_argument("--temperature", type=positive_float, default=0.6, help="boldness of the samples (%(default)s)")
    parser.add_argument("--rate", type=positive_float, default=0.01, help="learning rate (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of weights, order and samples (%(default)s)")
    parser.add_argument("--engine", choices=["tapegrad", "reference"], default="tapegrad", help="(%(default)s)")
    options = parser.parse_args(argv)
    try:
        words = read_words(options.text)
    except (OSError, ValueError) as error:
        parser.error(f"cannot use {options.text!r} as --text: {error}")

    module = importlib.import_module("tapegrad.reference" if options.engine == "reference" else "tapegrad")
    rng = random.Random(options.seed)
    rng.shuffle(words)
    vocabulary = Vocabulary(words)
    model = GPT(len(vocabulary), module.Value, rng)
    optimiser = Adam(model.parameters(), options.rate, options.steps)
    print(f"{len(words)} words, {len(vocabulary)} tokens, {len(optimiser.parameters):,} parameters")

    end = "\r" if sys.stdout.isatty() else "\n"
    for step in range(options.steps):
        loss = model.loss(vocabulary.encode(words[step % len(words)]))
        loss.backward()
        optimiser.step()
        print(
            f"step {step + 1:{len(str(options.steps))}} of {options.steps}, loss {loss.data:.4f}", end=end, flush=True
        )
    if end == "\r":
        print()
    for _ in range(options.samples):
        tokens = model.sample(vocabulary.boundary, rng, options.temperature)
        print("".join(vocabulary.characters[token] for token in tokens))
    return 0


def positive_int(text: str) -> int:
    """Return the number that an option was given.

    Raises:
        ValueError: it is not a whole number above 0.
    """
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def positive_float(text: str) -> float:
    """Return the number that an option was given.

    Raises:
        ValueError: it is not a number above 0.
    """
    number = float(text)
    if not 0 < number < math.inf:
        raise ValueError(text)
    return number


if __name__ == "__main__":
    sys.exit(main())
