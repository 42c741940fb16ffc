"""What a quantity was taken from: the exact integer for a program, and the same in words for a reader."""

from __future__ import annotations

from dataclasses import dataclass

from kernel.quantity import VCPU_HOUR_IN_MILLI_VCPU_MS, render_ratio
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
    return Fact(name, label, str(milli_vcpu_ms), f"{render_vcpu_hours(milli_vcpu_ms)} vCPU-hours")


def vcpu_fact(name: str, label: str, milli_vcpu: int) -> Fact:
    """A level, shown in vCPU."""
    return Fact(name, label, str(milli_vcpu), f"{render_vcpu(milli_vcpu)} vCPU")


def hours_fact(name: str, label: str, milliseconds: int, unit: str = "hours") -> Fact:
    """A duration, shown in hours."""
    return Fact(name, label, str(milliseconds), f"{render_hours(milliseconds)} {unit}")


def render_vcpu(milli_vcpu: int) -> str:
    """vCPU without trailing zeros."""
    return render_ratio(milli_vcpu, 1000, 3).rstrip("0").rstrip(".")


def render_vcpu_hours(milli_vcpu_ms: int) -> str:
    """An integral in vCPU-hours with three decimals."""
    return render_ratio(milli_vcpu_ms, VCPU_HOUR_IN_MILLI_VCPU_MS, 3)


def render_hours(milliseconds: int) -> str:
    """Hours with two decimals."""
    return render_ratio(milliseconds, HOUR_MS, 2)
