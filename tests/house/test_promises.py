"""Every promise of a port has a test with its number, and every numbered test a promise."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Generic, Protocol

import pytest

import async_jobs.adapters
import async_jobs.application
import async_jobs.ports
import async_jobs.testing
from async_jobs.testing import contracts

TESTS = Path(__file__).parents[1]
PROMISE = re.compile(r"^\s+([A-Z]{2}-\d+) \S", re.MULTILINE)
NUMBERED = re.compile(r"test_([a-z]{2})_(\d+)_[a-z0-9_]+")


def modules_of(package: ModuleType) -> Iterator[ModuleType]:
    """Yield every module of a package, imported."""
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        yield importlib.import_module(found.name)


def classes_of(package: ModuleType) -> Iterator[type]:
    """Yield every class that a package defines for others to use."""
    for module in modules_of(package):
        for name, each in inspect.getmembers(module, inspect.isclass):
            if each.__module__ == module.__name__ and not name.startswith("_"):
                yield each


def promises_of(port: type) -> list[str]:
    """Return the numbers that a port's docstring gives its promises, in order."""
    return PROMISE.findall(port.__doc__ or "")


def all_promises_of(port: type) -> list[str]:
    """Return its own promises, and those of the ports that it extends."""
    return [number for each in port.__mro__ for number in promises_of(each)]


def checks_of(contract: type) -> list[str]:
    """Return the names of a contract's tests."""
    return [name for name in dir(contract) if name.startswith("test")]


def number_of(test: str) -> str | None:
    """Return the promise that a test carries in its name."""
    found = NUMBERED.fullmatch(test)
    return f"{found[1].upper()}-{found[2]}" if found else None


PORTS = {each.__name__: each for each in classes_of(async_jobs.ports) if all_promises_of(each)}
OWN = {name: numbers for name, port in PORTS.items() if (numbers := promises_of(port))}
"""Of the ports that are more than the sum of others."""
CONTRACTS = {name.removesuffix("Contract"): getattr(contracts, name) for name in contracts.__all__}

each_port = pytest.mark.parametrize("port", sorted(PORTS))


def test_every_port_with_promises_has_a_contract() -> None:
    """And there is no contract without a port."""
    assert PORTS.keys() == CONTRACTS.keys()


def test_no_two_ports_number_their_promises_alike() -> None:
    """Each has two letters of its own, counts from one, and leaves no number out."""
    letters = {name: {number[:2] for number in numbers} for name, numbers in OWN.items()}

    assert all(len(each) == 1 for each in letters.values())
    assert len({letter for each in letters.values() for letter in each}) == len(OWN)
    for name, (letter,) in letters.items():
        numbers = OWN[name]
        assert numbers == [f"{letter}-{i + 1}" for i in range(len(numbers))]


@each_port
def test_every_promise_has_a_test(port: str) -> None:
    """A promise nobody checks is a hope."""
    assert set(promises_of(PORTS[port])) <= {number_of(test) for test in checks_of(CONTRACTS[port])}


@each_port
def test_every_test_of_a_contract_carries_a_promise(port: str) -> None:
    """An adapter is held to what its port says, and to nothing else."""
    unpromised = [
        test
        for test in checks_of(CONTRACTS[port])
        if number_of(test) not in all_promises_of(PORTS[port])
    ]

    assert not unpromised


@each_port
def test_every_test_of_a_contract_says_what_it_shows(port: str) -> None:
    """Its docstring is a sentence."""
    contract = CONTRACTS[port]
    mute = [test for test in checks_of(contract) if not (getattr(contract, test).__doc__ or "")]

    assert not mute


def methods_of(port: type) -> set[str]:
    """Return what a class has to have that implements the port."""
    protocols = [each for each in port.__mro__ if each not in (Protocol, Generic, object)]
    return {name for each in protocols for name in vars(each) if not name.startswith("_")}


def runs(implementation: type, part: type, port: type) -> bool:
    """Tell whether a class has every method of the port from another one, unchanged."""
    return issubclass(implementation, part) and all(
        getattr(implementation, name) is getattr(part, name) for name in methods_of(port)
    )


def implementations_of(port: type) -> list[type]:
    """Return what has every method of the port: adapters never inherit it."""
    methods = methods_of(port)
    packages = (async_jobs.adapters, async_jobs.application, async_jobs.testing)
    classes = (each for package in packages for each in classes_of(package))
    return [each for each in classes if methods <= set(dir(each))]


def test_the_contract_of_an_extension_holds_all_of_what_it_extends() -> None:
    """`Outbox` is a `JobQueue`, and tested as one."""
    for name, port in PORTS.items():
        for other in PORTS.keys() - {name}:
            if PORTS[other] in port.__mro__:
                assert issubclass(CONTRACTS[name], CONTRACTS[other])


@functools.cache
def bindings() -> dict[str, set[str]]:
    """Return, for each contract that our tests bind, every name its bindings mention."""
    found: dict[str, set[str]] = {}
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ClassDef):
                continue
            names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
            for base in node.bases:
                found.setdefault(ast.unparse(base), set()).update(names)
    return found


@each_port
def test_every_implementation_of_a_port_is_bound_to_its_contract(port: str) -> None:
    """Those that users run, and those that only tests do; a part with what is made of it."""
    implementations = implementations_of(PORTS[port])
    # The contract of a port that extends this one holds all of this one's.
    extended = [name for name, each in PORTS.items() if PORTS[port] in each.__mro__]
    bound = {name for each in extended for name in bindings().get(f"{each}Contract", ())}

    tested = [each for each in implementations if each.__name__ in bound]
    assert tested
    assert [
        each.__name__
        for each in implementations
        if not any(runs(whole, each, PORTS[port]) for whole in tested)
    ] == []


def test_no_contract_is_weakened_by_a_binding() -> None:
    """A test that is skipped or overridden is a hole."""
    promised = {test for contract in CONTRACTS.values() for test in checks_of(contract)}
    overridden = [
        f"{path.name}:{node.lineno}"
        for path in TESTS.rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name in promised
    ]

    assert not overridden
