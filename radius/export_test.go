package radius

import "time"

func init() { flushEvery = 50 * time.Millisecond }
