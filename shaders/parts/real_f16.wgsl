// What the probe of fma computes with.

alias Real = f16;
