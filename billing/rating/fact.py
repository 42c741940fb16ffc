"""What a quantity was taken from: the exact integer for a program, and the same in words for a reader."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from kernel.quantity import render_fraction, vcpu_hours
from kernel.window import HOUR_MS


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact. `value` is exact and in the unit that `name` says; `shown` is rounded and names its unit."""

    name: str
    label: str
    value: str
    shown: str


def text_fact(name: str, label: str, value: str) -> Fact:
    """A fact that is its own text."""
    return Fact(name, label, value, value)


def usage_fact(name: str, label: str, milli_vcpu_ms: int) -> Fact:
    """An integral, shown in vCPU-hours."""
    return Fact(name, label, str(milli_vcpu_ms), f"{render_fraction(vcpu_hours(milli_vcpu_ms), 3)} vCPU-hours")


def vcpu_fact(name: str, label: str, milli_vcpu: int) -> Fact:
    """A level, shown in vCPU."""
    return Fact(name, label, str(milli_vcpu), f"{render_vcpu(milli_vcpu)} vCPU")


def hours_fact(name: str, label: str, milliseconds: int, unit: str = "hours") -> Fact:
    """A duration, shown in hours."""
    return Fact(name, label, str(milliseconds), f"{render_hours(milliseconds)} {unit}")


def render_vcpu(milli_vcpu: int) -> str:
    """vCPU without trailing zeros."""
    return render_fraction(Fraction(milli_vcpu, 1000), 3).rstrip("0").rstrip(".")


def render_hours(milliseconds: int) -> str:
    """Hours with two decimals."""
    return render_fraction(Fraction(milliseconds, HOUR_MS), 2)
