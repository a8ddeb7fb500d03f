"""Analysis: certificates of equilibria, Jacobians, spectra, rates, matrix games.

`certify` works on small games in certified float64 arithmetic, `certify_large` on
networks without ever forming a matrix; both return an `EquilibriumReport`. Operators
for the matrix-free tools are in `gamedyn.analysis.operators`.
"""

from gamedyn.analysis import operators
from gamedyn.analysis.certificates import (
    SymmetricCertificate,
    certify_symmetric,
    lyapunov_certificate,
    stein_certificate,
)
from gamedyn.analysis.certify import certify
from gamedyn.analysis.certify_large import certify_large
from gamedyn.analysis.flow import timescale_stability
from gamedyn.analysis.jacobians import game_jacobian, hamiltonian, own_hessians, split
from gamedyn.analysis.lanczos import (
    LanczosResult,
    kuczynski_wozniakowski,
    lanczos,
    rayleigh_quotient,
    spectrum_bounds,
)
from gamedyn.analysis.matrix_games import (
    best_responses,
    bimatrix_equilibria,
    check_bimatrix,
    exploitability,
    nash_conv,
    variational_gap,
    zero_sum_value,
)
from gamedyn.analysis.path import path_angle
from gamedyn.analysis.rates import MeasuredRate, measured_rate
from gamedyn.analysis.report import (
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

__all__ = [
    "Curvature",
    "Dynamics",
    "EquilibriumReport",
    "LanczosResult",
    "MeasuredRate",
    "PlayerCurvature",
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
    "stein_certificate",
    "symmetric_spectrum",
    "timescale_stability",
    "trace",
    "update_jacobian",
    "update_spectrum",
    "variational_gap",
    "zero_sum_value",
]
