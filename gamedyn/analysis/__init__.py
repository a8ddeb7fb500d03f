"""Analysis: certificates of equilibria, Jacobians, spectra, rates, matrix games.

`certify` works on small games in certified float64 arithmetic, `certify_large` on
networks without ever forming a matrix; both return an `EquilibriumReport`. On
constrained domains `certify` returns a `ConstrainedReport`. Operators for the
matrix-free tools are in `gamedyn.analysis.operators`.
"""

from typing import TYPE_CHECKING

from gamedyn.analysis import operators
from gamedyn.analysis.bounds import (
    kuczynski_wozniakowski,
    rayleigh_quotient,
    spectrum_bounds,
)
from gamedyn.analysis.certificates import (
    SymmetricCertificate,
    certify_symmetric,
    lyapunov_certificate,
    stein_certificate,
)
from gamedyn.analysis.certification import certify
from gamedyn.analysis.constrained import (
    ConstrainedReport,
    ConstrainedVerdict,
    certify_constrained,
)
from gamedyn.analysis.flow import timescale_stability
from gamedyn.analysis.gaps import (
    best_responses,
    exploitability,
    nash_conv,
    variational_gap,
)
from gamedyn.analysis.jacobians import game_jacobian, hamiltonian, own_hessians, split
from gamedyn.analysis.krylov import LanczosResult, lanczos
from gamedyn.analysis.matrix_free import certify_large
from gamedyn.analysis.path import path_angle
from gamedyn.analysis.rates import MeasuredRate, measured_rate
from gamedyn.analysis.regions import (
    Region,
    mode_radii,
    modewise,
    stability_region,
)
from gamedyn.analysis.spectra import (
    arnoldi,
    own_spectrum,
    spectral_density,
    symmetric_spectrum,
    trace,
    update_spectrum,
)
from gamedyn.analysis.updates import (
    SpectralRadius,
    UpdateJacobian,
    spectral_radius,
    update_jacobian,
)
from gamedyn.analysis.verdicts import (
    Curvature,
    Dynamics,
    EquilibriumReport,
    PlayerCurvature,
    Stability,
    Stackelberg,
    StackelbergVerdict,
    Stationarity,
    TimescaleStability,
    Verdict,
)
from gamedyn.games.equilibria import (
    bimatrix_equilibria,
    check_bimatrix,
    zero_sum_value,
)
from gamedyn.registry import missing as _missing

__all__ = [
    "ConstrainedReport",
    "ConstrainedVerdict",
    "Curvature",
    "Dynamics",
    "EquilibriumReport",
    "LanczosResult",
    "MeasuredRate",
    "PlayerCurvature",
    "Region",
    "SpectralRadius",
    "Stability",
    "Stackelberg",
    "StackelbergVerdict",
    "Stationarity",
    "SymmetricCertificate",
    "TimescaleStability",
    "UpdateJacobian",
    "Verdict",
    "arnoldi",
    "best_responses",
    "bimatrix_equilibria",
    "certify",
    "certify_constrained",
    "certify_large",
    "certify_symmetric",
    "check_bimatrix",
    "exploitability",
    "game_jacobian",
    "hamiltonian",
    "kuczynski_wozniakowski",
    "lanczos",
    "lyapunov_certificate",
    "measured_rate",
    "mode_radii",
    "modewise",
    "nash_conv",
    "operators",
    "own_hessians",
    "own_spectrum",
    "path_angle",
    "rayleigh_quotient",
    "spectral_density",
    "spectral_radius",
    "spectrum_bounds",
    "split",
    "stability_region",
    "stein_certificate",
    "symmetric_spectrum",
    "timescale_stability",
    "trace",
    "update_jacobian",
    "update_spectrum",
    "variational_gap",
    "zero_sum_value",
]

if not TYPE_CHECKING:  # of a name that is not there, the nearest are named
    __getattr__ = _missing(__name__)
