"""Names for containers that were given none: an adjective and a surname.

The people are dead and worked on numbers, nature, or machines.
"""

from __future__ import annotations

import os

ADJECTIVES = (
    "able agile amber ample apt artful astute balmy blithe bold bonny brave breezy bright brisk "
    "calm candid careful cheery chipper civil clever cosy crafty crisp curious dapper daring "
    "deft devout diligent dreamy eager earnest easy elated fair fearless festive fleet fluent "
    "fond frank frugal gallant genial gentle gifted glad gleeful graceful grand handy hardy "
    "hearty helpful honest hopeful humble ideal jaunty jolly jovial keen kind lavish learned "
    "limber lively loyal lucid lucky mellow merry mild mindful modest neat nimble noble noted "
    "open patient peaceful placid plucky poised polite prompt proper proud quick quiet ready "
    "robust rosy sage serene sharp shrewd sincere skilful snappy sober spry stable staunch "
    "steady stoic stout sunny supple sure swift tender thrifty tidy tireless trusty upbeat "
    "valiant vivid warm wary willing wise witty worthy zesty"
)
SURNAMES = (
    "abel agnesi ampere archimedes aryabhata avicenna babbage backus banach banneker bernoulli "
    "bessel bhaskara bohr boltzmann boole borel bose brahe brahmagupta cantor cardano carnot "
    "carson cauchy cavendish celsius chandrasekhar chatelet church codd copernicus coulomb "
    "crick curie dalton darwin dedekind descartes dijkstra dirac eckert eddington einstein "
    "eratosthenes erdos euclid euler faraday fermat fermi feynman fibonacci fourier franklin "
    "frege fresnel galileo galois galvani gauss germain gibbs godel goldbach gosset hadamard "
    "halley hamilton heaviside heisenberg hermite hertz hilbert hollerith hooke hopper hubble "
    "humboldt huygens hypatia jacobi jacquard johnson joule kelvin kepler kilby kleene "
    "kolmogorov kovalevskaya lagrange laplace lavoisier leavitt legendre leibniz linnaeus "
    "lobachevsky lovelace markov maxwell mccarthy meitner mendel mendeleev mersenne minkowski "
    "mitchell mobius napier naur neumann newton nightingale noether nygaard oersted ohm pascal "
    "pasteur pauli payne peano pearson perlis planck poincare poisson ptolemy ramanujan ray "
    "riemann ritchie rontgen rutherford schrodinger shannon sierpinski somerville stokes "
    "strachey sylvester tarski tesla thales torricelli turing ulam venn vinci volta wallis watt "
    "weierstrass wien wilkes wirth yalow young zeno zuse"
)


def draw(attempt: int = 0) -> str:
    """A random name; later attempts add a number, so that one is found in the end."""
    adjectives, surnames = ADJECTIVES.split(), SURNAMES.split()
    first = int.from_bytes(os.urandom(4), "little")
    second = int.from_bytes(os.urandom(4), "little")
    name = f"{adjectives[first % len(adjectives)]}_{surnames[second % len(surnames)]}"
    return f"{name}{second % 10 ** (attempt - 4)}" if attempt > 4 else name
