package policy

import "strings"

// Channel kinds: the words of a document and of [Request.Channel].
const (
	Shell         = "shell"
	Exec          = "exec"
	SFTP          = "sftp"
	SCP           = "scp"
	Rsync         = "rsync"
	Git           = "git"
	LocalForward  = "local-forward"  // ssh -L
	Dynamic       = "dynamic"        // ssh -D
	RemoteForward = "remote-forward" // ssh -R
	UnixForward   = "unix-forward"   // forwarded Unix sockets
	Agent         = "agent"
	X11           = "x11"
	Subsystem     = "subsystem" // one that is not sftp, such as netconf
	RADIUS        = "radius"    // no channel of SSH: being let in by a RADIUS client, whose name stands for the target's
)

// kindWords is the order in which kinds are listed; a kind's index is its bit in a kindSet.
var kindWords = [...]string{
	Shell, Exec, SFTP, SCP, Rsync, Git, LocalForward, Dynamic, RemoteForward, UnixForward, Agent, X11, Subsystem, RADIUS,
}

// Kinds lists the words for channels, in the order in which every list of kinds is given.
func Kinds() []string { return append([]string(nil), kindWords[:]...) }

// kindSet is a set of channel kinds, one bit each.
type kindSet uint16

const allKinds = kindSet(1<<len(kindWords) - 1)

// radiusKind is the one kind that no connection of SSH has.
const radiusKind = kindSet(1 << 13)

// sshKinds are those of a connection of SSH.
const sshKinds = allKinds &^ radiusKind

// defaultKinds is what a rule allows that has no channels: shell, exec, sftp, scp, the first four words.
const defaultKinds = kindSet(1<<4 - 1)

// fileKinds are sftp and scp: what a rule with sftp paths allows that has no channels.
const fileKinds = kindSet(1<<2 | 1<<3)

// forwardsOut are local-forward and dynamic, by which a client reaches what the target can reach.
const forwardsOut = kindSet(1<<6 | 1<<7)

// kindOf gives the set with the one kind that word names.
func kindOf(word string) (kindSet, bool) {
	for i, w := range kindWords {
		if w == word {
			return 1 << i, true
		}
	}
	return 0, false
}

// words lists the kinds in the set.
func (s kindSet) words() []string {
	var words []string
	for i, w := range kindWords {
		if s&(1<<i) != 0 {
			words = append(words, w)
		}
	}
	return words
}

func (s kindSet) String() string { return strings.Join(s.words(), ", ") }

// takesDestinations reports whether kind may be held to a list of host and port.
func takesDestinations(kind string) bool {
	return kind == LocalForward || kind == Dynamic || kind == RemoteForward
}
