module github.com/seed342dcb2d/coalesce/internal/mutate

go 1.25
