//go:build !linux

package auth

import "time"

func sleepExactly(end time.Time) { time.Sleep(time.Until(end)) }
