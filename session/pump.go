package session

import "io"

// A pump moves what one side of a channel sends, for as long as it sends. While nothing comes it holds nothing, and
// with the SSH library of hack/patchssh not even a goroutine, which costs more than all else of an idle direction.
type pump struct {
	src   io.Reader
	move  func(p []byte) bool // false: nothing more is wanted
	over  func()              // is called once, at the end
	later laterReader         // src, if it can call; else nil
	run   func()              // work; made once, for each key comes this way
}

// laterReader is the part of an edited library's channel that can do without a waiting goroutine: if there is nothing
// to read, f is called in a goroutine of its own when there is, or when nothing will come any more, and ReadLater is
// true. Otherwise Read does not block.
type laterReader interface{ ReadLater(f func()) bool }

// newPump gives a pump that [pump.start] begins.
func newPump(src io.Reader, move func(p []byte) bool, over func()) *pump {
	p := &pump{src: src, move: move, over: over}
	p.later, _ = src.(laterReader)
	p.run = p.work
	return p
}

// start begins to move.
func (p *pump) start() {
	if p.later == nil || !p.later.ReadLater(p.run) {
		go p.work()
	}
}

// work moves what there is. Without ReadLater it ends when src does.
func (p *pump) work() {
	b := newBuffer()
	defer b.release()
	for {
		if p.later != nil && p.later.ReadLater(p.run) {
			return // another one may be at it already
		}
		n, err := b.read(p.src)
		if n > 0 && !p.move(b.bytes(n)) || err != nil {
			p.over()
			return
		}
	}
}
