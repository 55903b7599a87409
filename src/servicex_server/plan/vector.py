"""What func_adl queries may ask of vectors: the properties, methods and arithmetic of the `vector` package.

Vectors are records under one of the names `KINDS`. A query makes four-momenta of records with
`ToFourMomentum()` or `ToFourMomenta()`; other kinds arise from those (`to_Vector3D`, `to_beta3`).
Their meaning is that of https://vector.readthedocs.io; nothing but the members named here can be reached.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

FOUR_MOMENTUM = "Momentum4D"
KINDS = frozenset(f"{flavor}{dimension}D" for flavor in ("Momentum", "Vector") for dimension in (2, 3, 4))
CONVERSIONS = frozenset({"ToFourMomentum", "ToFourMomenta"})
"""Methods of func_adl that make four-momenta of records; the first also takes a dict."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


PLANAR = _words("x y rho rho2 phi px py pt pt2")
"""Properties that need the azimuthal coordinates only."""
SPATIAL = _words("z theta eta costheta cottheta mag mag2 pz p p2 pseudorapidity")
"""Properties that need the azimuthal and the longitudinal coordinates."""
_LORENTZ = _words(
    """t t2 tau tau2 beta gamma rapidity E E2 e e2 energy energy2 M M2 m m2 mass mass2 Et Et2 et et2
transverse_energy transverse_energy2 Mt Mt2 mt mt2 transverse_mass transverse_mass2"""
)
PROPERTIES = PLANAR | SPATIAL | _LORENTZ | _words("neg2D neg3D neg4D")

_AZIMUTHAL = ("xy", "rhophi", "pxpy", "ptphi")
_COORDINATES = (
    *(azimuthal + longitudinal for azimuthal in _AZIMUTHAL[:2] for longitudinal in ("", "z", "theta", "eta")),
    *(
        azimuthal + longitudinal + temporal
        for azimuthal in _AZIMUTHAL[:2]
        for longitudinal in ("z", "theta", "eta")
        for temporal in ("t", "tau")
    ),
    *(
        azimuthal + longitudinal
        for azimuthal in _AZIMUTHAL[2:]
        for longitudinal in ("", "pz", "theta", "eta")
    ),
    *(
        azimuthal + longitudinal + temporal
        for azimuthal in _AZIMUTHAL[2:]
        for longitudinal in ("pz", "theta", "eta")
        for temporal in ("energy", "mass")
    ),
)
_CONVERTERS = frozenset(f"to_{name}" for name in (*_COORDINATES, "2D", "3D", "4D", "beta3")) | _words(
    "to_Vector2D to_Vector3D to_Vector4D"
)
_OF_ANOTHER = _words(
    """add subtract dot cross equal not_equal like deltaphi deltaeta deltaR deltaR2 deltaangle
deltaRapidityPhi deltaRapidityPhi2 boost boost_p4 boost_beta3 boostCM_of boostCM_of_p4 boostCM_of_beta3"""
)
_OF_A_NUMBER = _words(
    """boostX boostY boostZ rotateX rotateY rotateZ scale scale2D scale3D scale4D
transform2D transform3D transform4D"""
)

METHODS: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        **dict.fromkeys(_CONVERTERS | {"unit"}, (0, 0)),
        **dict.fromkeys(_OF_ANOTHER | _OF_A_NUMBER, (1, 1)),
        **dict.fromkeys(("is_timelike", "is_spacelike", "is_lightlike"), (0, 1)),
        **dict.fromkeys(("is_parallel", "is_antiparallel", "is_perpendicular"), (1, 2)),
        "isclose": (1, 4),
        "rotate_axis": (2, 2),
        "rotate_euler": (3, 4),
        "rotate_nautical": (3, 3),
        "rotate_quaternion": (4, 4),
    }
)
"""Methods of vectors, and how many arguments each takes at least and at most."""

MATRIX_METHODS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {f"transform{n}D": tuple(row + column for row in "xyzt"[:n] for column in "xyzt"[:n]) for n in (2, 3, 4)}
)
"""Methods whose argument is a matrix, given as a dict with these keys."""

AZIMUTHAL_FIELDS = _words("x y px py rho pt phi")
LONGITUDINAL_FIELDS = _words("z pz theta eta")
TEMPORAL_FIELDS = _words("t E e energy tau M m mass")
UFUNCS = _words(
    "add subtract multiply divide negative positive equal not_equal absolute square sqrt cbrt power"
)
"""Elementwise functions that have a meaning for vectors."""
REDUCERS = _words("sum count count_nonzero")


def coordinates_for(member: str, kind: str) -> tuple[str, frozenset[str]] | None:
    """The kind of vector that a property needs, and which fields that may have; None if it may need all."""
    dimension = 2 if member in PLANAR else 3 if member in SPATIAL else 4 if member in _LORENTZ else None
    if dimension is None or dimension > int(kind[-2]):
        return None
    fields = (AZIMUTHAL_FIELDS, LONGITUDINAL_FIELDS, TEMPORAL_FIELDS)[: dimension - 1]
    return f"{kind[:-2]}{dimension}D", frozenset().union(*fields)
