package main

import "embed"

// added are the files that go into the copy as they are.
//
//go:embed added
var added embed.FS

// edit replaces a text that must stand exactly once in a file of ssh/.
type edit struct {
	name     string
	file     string
	old, new string
}

// edits are what the copy differs in; what they call is in added/bulk.go.txt. Three things are
// changed: packets of channel data are read into buffers of a pool; packets that one Write of a
// channel makes go out together; nothing is held while a connection is idle.
var edits = []edit{
	{"read data packets into buffers of the pool", "transport.go",
		"	fresh := make([]byte, len(packet))\n	copy(fresh, packet)\n",
		"	fresh := keepPacket(packet)\n"},
	{"remember the packet of a piece of data", "buffer.go",
		"	buf  []byte\n	next *element\n",
		"	buf  []byte\n	next *element\n\n	packet []byte // of which buf is the rest\n"},
	{"give a packet back when it is read", "buffer.go",
		"			n += r\n",
		"			n += r\n			b.head.recycle()\n"},
	{"hand the packet of data over", "channel.go",
		"		ch.pending.write(data)\n",
		"		ch.pending.writePacket(data, packet)\n"},
	{"hand the packet of extended data over", "channel.go",
		"		ch.extPending.write(data)\n",
		"		ch.extPending.writePacket(data, packet)\n"},

	{"know whether packets are held back", "channel.go",
		"	for len(data) > 0 {\n		space :=",
		"	held := false\n	for len(data) > 0 {\n		space :="},
	{"hold nothing back while the window is closed", "channel.go",
		"ch.remoteWin.reserve(space)",
		"ch.reserve(space, held)"},
	{"hold a packet back that another one follows", "channel.go",
		"		if err = ch.writePacket(packet); err != nil {\n",
		"		held = len(data) > len(todo)\n		if err = ch.send(packet, held); err != nil {\n"},
	{"send on a channel", "channel.go",
		"func (ch *channel) writePacket(packet []byte) error {\n",
		"func (ch *channel) writePacket(packet []byte) error {\n	return ch.send(packet, false)\n}\n\n" +
			"func (ch *channel) send(packet []byte, more bool) error {\n"},
	{"send from a channel to its connection", "channel.go",
		"	err := ch.mux.conn.writePacket(packet)\n",
		"	err := ch.mux.send(packet, more)\n"},
	{"send on a connection", "handshake.go",
		"func (t *handshakeTransport) writePacket(p []byte) error {\n",
		"func (t *handshakeTransport) writePacket(p []byte) error {\n	return t.send(p, false)\n}\n\n" +
			"func (t *handshakeTransport) send(p []byte, more bool) error {\n"},
	{"push with what follows", "handshake.go",
		"	if err := t.pushPacket(p); err != nil {\n		t.writeError = err\n",
		"	if err := t.push(p, more); err != nil {\n		t.writeError = err\n"},

	{"keep the writer that holds back", "transport.go",
		"	bufWriter *bufio.Writer\n",
		"	bufWriter *bufio.Writer\n	bulk      *bulkWriter // below bufWriter\n"},
	{"put it below the buffer", "transport.go",
		"	t.isClient = isClient\n",
		"	t.bulk = &bulkWriter{w: rwc}\n	t.bufWriter.Reset(t.bulk)\n	t.isClient = isClient\n"},
	{"write packets through it", "transport.go",
		"	return t.writer.writePacket(t.bufWriter, t.rand, packet, t.strictMode)\n",
		"	t.bulk.begin(len(packet))\n" +
			"	return t.bulk.end(t.writer.writePacket(t.bufWriter, t.rand, packet, t.strictMode))\n"},
}
