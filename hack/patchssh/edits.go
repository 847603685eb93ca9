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

// edits are what the copy differs in; what they call is in added/. Nine things are changed:
// channel data goes from the goroutine that reads a connection to the one that reads the channel, without
// one in between; long packets of it are decrypted in a buffer of a pool, and handed on in that; what one
// Write of a channel makes is encrypted where it is written from, and goes out together; the peer's window
// is opened less often; the goroutines of key exchanges and of all other packets end when there are none;
// who waits for data, requests or channels can be called in the place of having a goroutine for it;
// the one that reads ends after an error, whatever the peer sent with it; who wants to tells of the end of a program after
// the peer has closed its channel; and of a configuration no more is kept than is needed.
// Nothing is held while a connection is idle.
var edits = []edit{
	{"leave long packets where they were decrypted", "transport.go",
		"	fresh := make([]byte, len(packet))\n	copy(fresh, packet)\n",
		"	if isBulk(packet) {\n		return packet, err // the caller is a read loop, which keeps it or hands it over\n	}\n" +
			"	fresh := make([]byte, len(packet))\n	copy(fresh, packet)\n	s.giveBack()\n"},
	{"remember whose buffer a long packet is in", "cipher.go",
		"	iv     []byte\n	buf    []byte\n}\n\nfunc newGCMCipher",
		"	iv     []byte\n	buf    []byte\n	lent   *bulkPacket // of which the packet read last is a part\n}\n\nfunc newGCMCipher"},
	{"decrypt long packets in buffers of the pool", "cipher.go",
		"	if cap(c.buf) < int(length+gcmTagSize) {\n		c.buf = make([]byte, length+gcmTagSize)\n	} else {\n		c.buf = c.buf[:length+gcmTagSize]\n	}\n\n" +
			"	if _, err := io.ReadFull(r, c.buf); err != nil {\n		return nil, err\n	}\n\n" +
			"	plain, err := c.aead.Open(c.buf[:0], c.iv, c.buf, c.prefix[:])\n",
		"	buf := c.room(int(length + gcmTagSize))\n" +
			"	if _, err := io.ReadFull(r, buf); err != nil {\n		return nil, err\n	}\n\n" +
			"	plain, err := c.aead.Open(buf[:0], c.iv, buf, c.prefix[:])\n"},

	{"know who takes channel data, and whether it is waiting for other packets", "handshake.go",
		"	incoming  chan []byte\n	readError error\n",
		"	incoming  chan []byte\n	readError error\n\n" +
			"	mux    atomic.Pointer[mux]\n	queued atomic.Int64 // packets in incoming, and the one being handled\n	taken  bool         // one is; for whom reads packets\n"},
	{"import atomic", "handshake.go",
		"	\"sync\"\n)",
		"	\"sync\"\n	\"sync/atomic\"\n)"},
	{"deliver channel data from the read loop", "handshake.go",
		"		t.incoming <- p\n",
		"		if delivered, err := t.deliver(p); err != nil {\n			t.readError = err\n			close(t.incoming)\n			break\n		} else if delivered {\n			continue\n		}\n" +
			"		t.queued.Add(1)\n		t.incoming <- t.keep(p)\n		t.callMux()\n"},
	{"wake who waits for channel data before a key exchange", "handshake.go",
		"	firstKex := t.sessionID == nil\n\n	kex :=",
		"	t.wake()\n	firstKex := t.sessionID == nil\n\n	kex :="},
	{"count what is handled", "handshake.go",
		"	p, ok := <-t.incoming\n	if !ok {\n		return nil, t.readError\n	}\n",
		"	if t.taken {\n		t.queued.Add(-1)\n	}\n	p, ok := <-t.incoming\n	if t.taken = ok; !ok {\n		return nil, t.readError\n	}\n"},
	{"introduce the mux", "mux.go",
		"	go m.loop()\n",
		"	if t, ok := p.(*handshakeTransport); ok {\n		t.mux.Store(m)\n	}\n	go m.loop()\n"},

	{"let goroutines that have nothing to do end", "handshake.go",
		"	// Algorithms agreed in the last key exchange.\n",
		"	kexShift, muxShift shift       // of kexLoop and of the mux's loop\n	otherKex           atomic.Bool // readLoop has a request for kexLoop, or will have\n	readOver           atomic.Bool // after incoming and startKex were closed\n\n" +
			"	// Algorithms agreed in the last key exchange.\n"},
	{"end the loop of key exchanges while there is none", "handshake.go",
		"	for t.getWriteError() == nil {\n		var request *pendingKex\n",
		"	for t.getWriteError() == nil {\n		if t.kexRests() {\n			return\n		}\n		var request *pendingKex\n"},
	{"take the other side's request", "handshake.go",
		"				if !ok {\n					break write\n				}\n",
		"				if !ok {\n					break write\n				}\n				t.otherKex.Store(false)\n"},
	{"begin the loop of key exchanges for a request of ours", "handshake.go",
		"		// something already requested a kex, so do nothing.\n	}\n",
		"		// something already requested a kex, so do nothing.\n	}\n	t.callKex()\n"},
	{"begin it for a request of the other side", "handshake.go",
		"	t.startKex <- &kex\n",
		"	t.otherKex.Store(true)\n	t.callKex()\n	t.startKex <- &kex\n"},
	{"begin both loops for the end", "handshake.go",
		"	close(t.startKex)\n",
		"	close(t.startKex)\n	t.readOver.Store(true)\n	t.callKex()\n	t.callMux()\n"},
	{"end the mux's loop while there is no packet", "mux.go",
		"	for err == nil {\n		err = m.onePacket()\n",
		"	for err == nil {\n		if m.rests() {\n			return\n		}\n		err = m.onePacket()\n"},

	{"know who is to be called for a request", "channel.go",
		"	incomingRequests chan *Request\n",
		"	incomingRequests chan *Request\n	asked            notice // of incomingRequests\n"},
	{"call for a request", "channel.go",
		"		ch.incomingRequests <- &req\n",
		"		ch.incomingRequests <- &req\n		ch.asked.give(false)\n"},
	{"know who is to be called for what comes to a connection", "mux.go",
		"	incomingRequests  chan *Request\n",
		"	incomingRequests  chan *Request\n	asked, opened     notice // of incomingRequests and incomingChannels\n"},
	{"call for a global request", "mux.go",
		"			mux:       m,\n		}\n",
		"			mux:       m,\n		}\n		m.asked.give(false)\n"},
	{"call for a channel", "mux.go",
		"	m.incomingChannels <- c\n",
		"	m.incomingChannels <- c\n	m.opened.give(false)\n"},
	{"call for the end of channels", "mux.go",
		"	close(m.incomingChannels)\n",
		"	close(m.incomingChannels)\n	m.opened.give(true)\n"},
	{"call for the end of global requests", "mux.go",
		"	close(m.incomingRequests)\n",
		"	close(m.incomingRequests)\n	m.asked.give(true)\n"},

	{"keep no more of a configuration than what is needed", "handshake.go",
		"	t := &handshakeTransport{\n		conn: ",
		"	own := *config // of a larger one, which refers to all that logging in took\n	t := &handshakeTransport{\n		conn: "},
	{"keep that", "handshake.go",
		"		config: config,\n",
		"		config: &own,\n"},

	{"let the read loop of a server end after an error", "server.go",
		"	perms, err := s.serverHandshake(&fullConf)\n	if err != nil {\n		c.Close()\n",
		"	perms, err := s.serverHandshake(&fullConf)\n	if err != nil {\n		c.Close()\n		drain(s.transport)\n"},
	{"let the read loop of a client end after an error", "client.go",
		"	if err := conn.clientHandshake(addr, &fullConf); err != nil {\n		c.Close()\n",
		"	if err := conn.clientHandshake(addr, &fullConf); err != nil {\n		c.Close()\n		drain(conn.transport)\n"},
	{"let the read loop end after an error of the mux", "mux.go",
		"	close(m.globalResponses)\n\n	m.conn.Close()\n",
		"	close(m.globalResponses)\n\n	drain(m.conn)\n	m.conn.Close()\n"},

	{"remember the buffer of a piece of data", "buffer.go",
		"	buf  []byte\n	next *element\n",
		"	buf  []byte\n	next *element\n\n	lent *bulkPacket // of which buf is the rest\n"},
	{"know who is to be called", "buffer.go",
		"	closed bool\n",
		"	closed bool\n\n	later func() // see readLater\n"},
	{"call for data", "buffer.go",
		"	b.tail = e\n	b.Cond.Signal()\n",
		"	b.tail = e\n	b.signal()\n"},
	{"call for the end", "buffer.go",
		"	b.closed = true\n	b.Cond.Signal()\n",
		"	b.closed = true\n	b.signal()\n"},
	{"give a buffer back when it is read", "buffer.go",
		"			n += r\n",
		"			n += r\n			b.head.recycle()\n"},
	{"know the buffer of the data that is handled", "channel.go",
		"	remoteWin  window\n	pending    *buffer\n	extPending *buffer\n",
		"	remoteWin  window\n	pending    *buffer\n	extPending *buffer\n\n	lent *bulkPacket // of the packet that is being delivered; for the read loop\n"},
	{"hand data over", "channel.go",
		"		ch.pending.write(data)\n",
		"		ch.pending.add(data, &ch.lent)\n"},
	{"hand extended data over", "channel.go",
		"		ch.extPending.write(data)\n",
		"		ch.extPending.add(data, &ch.lent)\n"},
	{"wake who reads the channel", "channel.go",
		"		return ch.handleData(packet)\n",
		"		err := ch.handleData(packet)\n		ch.wake()\n		return err\n"},
	{"open the window after half a MiB", "channel.go",
		"	if (channelWindowSize-c.myWindow > 3*c.maxIncomingPayload) ||\n		(c.myWindow < channelWindowSize/2) {\n",
		"	if c.myConsumed >= channelWindowSize/4 {\n"},

	{"know whether packets are held back", "channel.go",
		"	for len(data) > 0 {\n		space :=",
		"	held := false\n	for len(data) > 0 {\n		space :="},
	{"hold nothing back while the window is closed", "channel.go",
		"ch.remoteWin.reserve(space)",
		"ch.reserve(space, held)"},
	{"encrypt long packets where they are written from", "channel.go",
		"		if want := headerLength + space; uint32(cap(packet)) < want {\n",
		"		held = len(data) > int(space)\n" +
			"		if sent, err := ch.sendBulk(data[:space], extendedCode, held); err != nil {\n			return n, err\n		} else if sent {\n" +
			"			n += int(space)\n			data = data[space:]\n			continue\n		}\n" +
			"		if want := headerLength + space; uint32(cap(packet)) < want {\n"},
	{"hold a packet back that another one follows", "channel.go",
		"		if err = ch.writePacket(packet); err != nil {\n",
		"		if err = ch.send(packet, held); err != nil {\n"},
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

	{"know what is ended on one side", "channel.go",
		"	sentEOF bool\n",
		"	sentEOF bool\n\n	half half\n"},
	{"let nothing come after a close that is not answered", "channel.go",
		"	// Only the open response is expected before the channel is established.\n",
		"	if ch.half.closed.Load() {\n		return nil\n	}\n	// Only the open response is expected before the channel is established.\n"},
	{"leave the answer to a close to Close", "channel.go",
		"	case msgChannelClose:\n		ch.sendMessage(",
		"	case msgChannelClose:\n		if ch.half.holds(ch) {\n			return nil\n		}\n		ch.sendMessage("},
	{"remember the end of the peer's data", "channel.go",
		"		ch.extPending.eof()\n		ch.pending.eof()\n		return nil\n",
		"		ch.half.eof.Store(true)\n		ch.extPending.eof()\n		ch.pending.eof()\n		return nil\n"},
	{"forget the channel when the answer is sent", "channel.go",
		"	return ch.sendMessage(channelCloseMsg{\n		PeersID: ch.remoteId})\n",
		"	defer ch.half.finish(ch)\n	return ch.sendMessage(channelCloseMsg{\n		PeersID: ch.remoteId})\n"},
	{"end requests once", "channel.go",
		"		close(c.incomingRequests)\n",
		"		c.half.endRequests(c)\n"},

	{"keep the writer that holds back and the reader that wakes", "transport.go",
		"	bufWriter *bufio.Writer\n",
		"	bufWriter *bufio.Writer\n	bulk      *bulkWriter // below bufWriter\n	source    *bulkReader // below bufReader\n"},
	{"make them", "transport.go",
		"	t := &transport{\n		bufReader: bufio.NewReader(rwc),\n		bufWriter: bufio.NewWriter(rwc),\n",
		"	source, bulk := newBulkReader(rwc), &bulkWriter{w: rwc}\n" +
			"	t := &transport{\n		bufReader: bufio.NewReaderSize(source, 16), // reading ahead is left to rwc\n		bufWriter: bufio.NewWriterSize(bulk, 16),\n		source:    source,\n		bulk:      bulk,\n"},
	{"write packets through it", "transport.go",
		"	return t.writer.writePacket(t.bufWriter, t.rand, packet, t.strictMode)\n",
		"	if err, done := t.seal(packet); done {\n		return t.bulk.end(err)\n	}\n" +
			"	return t.bulk.end(t.writer.writePacket(t.bufWriter, t.rand, packet, t.strictMode))\n"},
}
