"""Tests of atoms need ASE."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("ase", reason="ASE is not installed")
sys.path.insert(0, str(Path(__file__).parent))
