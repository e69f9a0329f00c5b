// The hyperbolic tangent, built from exp.

// Drivers' own tanh is inaccurate on some devices and NaN for large inputs on others. Near 0, where 1 - 2/(e+1)
// would lose its digits, the series takes over.
fn tanh_of(x: f32) -> f32 {
    let e = exp(2.0 * clamp(abs(x), 0.0, 15.0));
    let far = 1.0 - 2.0 / (e + 1.0);
    let s = x * x;
    let near = abs(x) * fma(s, fma(s, fma(s, -0.053968254, 0.13333333), -0.33333333), 1.0);
    return sign(x) * select(far, near, abs(x) < 0.25);
}
