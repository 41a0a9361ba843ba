//! The normal distribution in logarithms, where its tails are as exact as its middle.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// The logarithm of the density at `x`.
pub fn log_density(x: f64) -> f64 {
    -0.5 * x * x - 0.5 * (2.0 * PI).ln()
}

/// The probability of a value below `x`.
fn below(x: f64) -> f64 {
    0.5 * libm::erfc(-x * FRAC_1_SQRT_2)
}

/// The logarithm of the probability of a value below `x`.
pub fn log_below(x: f64) -> f64 {
    if x > 5.0 {
        return (-below(-x)).ln_1p();
    }
    if x > -20.0 {
        return below(x).ln();
    }
    // Mills' ratio as a series; from here on its terms fall fast.
    let inverse = 1.0 / (x * x);
    let series = inverse * (-1.0 + inverse * (3.0 + inverse * (-15.0 + inverse * 105.0)));
    log_density(x) - (-x).ln() + series.ln_1p()
}

/// The logarithm of the probability of a value between `a` and `b`.
pub fn log_between(a: f64, b: f64) -> f64 {
    if b <= 0.0 {
        log_difference(log_below(b), log_below(a))
    } else if a > 0.0 {
        log_difference(log_below(-a), log_below(-b))
    } else {
        (-below(a) - below(-b)).ln_1p()
    }
}

/// The logarithm of the difference of what `p` and `q` are logarithms of.
fn log_difference(p: f64, q: f64) -> f64 {
    if q == f64::NEG_INFINITY { p } else { p + (-(q - p).exp()).ln_1p() }
}

/// The value between `a` and `b` that `share` of what lies between them lies below.
pub fn quantile(share: f64, a: f64, b: f64) -> f64 {
    // In the lower tail, where the logarithms tell values apart.
    if a >= 0.0 {
        return -quantile(1.0 - share, -b, -a);
    }
    if share <= 0.0 {
        return a;
    }
    let (low, part) = (log_below(a), share.ln() + log_between(a, b));
    let (large, small) = if low > part { (low, part) } else { (part, low) };
    let wanted = large + (small - large).exp().ln_1p();
    // Newton's way: the logarithm bends down everywhere, so that from the lower end no step goes too far.
    let mut at = a;
    for _ in 0..64 {
        let below = log_below(at);
        let step = (wanted - below) * (below - log_density(at)).exp();
        at += step;
        if step <= 1e-14 * at.abs() {
            break;
        }
    }
    at.clamp(a, b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_are_those_of_scipy() {
        // scipy.stats.norm.logcdf, 1.17.
        let known = [
            (-30.0, -454.321_243_956_343_27),
            (-20.0, -203.917_155_371_097_3),
            (-5.0, -15.064_998_393_988_727),
            (0.0, -std::f64::consts::LN_2),
            (2.0, -0.023_012_909_328_963_476),
            (8.0, -6.220_960_574_271_742e-16),
        ];
        for (x, expected) in known {
            assert!((log_below(x) / expected - 1.0).abs() < 1e-12, "{x}: {}", log_below(x));
        }
    }

    #[test]
    fn a_quantile_has_its_share_below_it() {
        for (a, b) in [(-1.0, 2.0), (-40.0, -35.0), (30.0, 31.0), (-0.1, 0.0), (0.0, 8.0)] {
            for share in [1e-9, 0.01, 0.5, 0.99, 1.0] {
                let at = quantile(share, a, b);
                let found = (log_between(a, at) - log_between(a, b)).exp();
                assert!((found - share).abs() < 1e-7 * share.max(1e-3), "{a} {b} {share}: {found}");
            }
        }
    }
}
