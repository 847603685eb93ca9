package main

import (
	"fmt"
	"strconv"
	"strings"
)

// size is a number of bytes, as a flag.
type size int64

var units = []struct {
	name  string
	bytes size
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// Set reads 256MiB, 1GiB or a plain number of bytes.
func (s *size) Set(text string) error {
	factor := size(1)
	for _, u := range units {
		if number, ok := strings.CutSuffix(text, u.name); ok {
			text, factor = number, u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 || n > 1<<40/int64(factor) {
		return fmt.Errorf("want a size such as 256MiB")
	}
	*s = size(n) * factor
	return nil
}

// String writes the size so that Set reads it.
func (s *size) String() string {
	for _, u := range units {
		if *s >= u.bytes && *s%u.bytes == 0 {
			return strconv.FormatInt(int64(*s/u.bytes), 10) + u.name
		}
	}
	return "0"
}
