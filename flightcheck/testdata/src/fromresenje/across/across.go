// Package across uses a group of another package.
package across

import (
	"context"

	"fromresenje/across/groups"
)

func use(ctx context.Context) {
	groups.Pages.Do(ctx, "k", nil)
}
