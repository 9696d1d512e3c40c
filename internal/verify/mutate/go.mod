module github.com/seed342dcb2d/coalesce/internal/verify/mutate

go 1.25

require github.com/seed342dcb2d/coalesce v0.0.0-00010101000000-000000000000

replace github.com/seed342dcb2d/coalesce => ../../../
