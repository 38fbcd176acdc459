-- Intervals at 95%, two-sided; z is the 97.5% point of the normal distribution.
-- Wilson: E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
--   Journal of the American Statistical Association 22 (1927).
-- Newcombe: R. G. Newcombe, "Interval estimation for the difference between independent proportions",
--   Statistics in Medicine 17 (1998), method 10 (from two Wilson intervals, no continuity correction).
create temp macro z() as 1.959963984540054::double;

create temp macro wilson_center(hits, n) as
    (hits::double / n + z() * z() / (2 * n)) / (1 + z() * z() / n);

create temp macro wilson_half(hits, n) as
    z() * sqrt((hits::double / n) * (1 - hits::double / n) / n + z() * z() / (4.0 * n * n)) / (1 + z() * z() / n);

-- Of none the lower end is 0 and of all the upper end is 1, in exact arithmetic as here.
create temp macro wilson_lower(hits, n) as
    case when hits = 0 then 0.0 else greatest(0.0, wilson_center(hits, n) - wilson_half(hits, n)) end;

create temp macro wilson_upper(hits, n) as
    case when hits = n then 1.0 else least(1.0, wilson_center(hits, n) + wilson_half(hits, n)) end;

create temp macro newcombe_lower(hits_1, n_1, hits_2, n_2) as
    hits_1::double / n_1 - hits_2::double / n_2
    - sqrt(
        power(hits_1::double / n_1 - wilson_lower(hits_1, n_1), 2)
        + power(wilson_upper(hits_2, n_2) - hits_2::double / n_2, 2)
    );

create temp macro newcombe_upper(hits_1, n_1, hits_2, n_2) as
    hits_1::double / n_1 - hits_2::double / n_2
    + sqrt(
        power(wilson_upper(hits_1, n_1) - hits_1::double / n_1, 2)
        + power(hits_2::double / n_2 - wilson_lower(hits_2, n_2), 2)
    );

-- Standard error of a mean from the exact sums of the values and of their squares.
create temp macro squared_error(total, squares, n) as
    case when n > 1 then greatest(0.0, (squares::double - total::double * total::double / n) / (n - 1)) / n end;
