//go:build !linux

package search

func lowPriority() {}
