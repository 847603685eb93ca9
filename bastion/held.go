package bastion

import "sallyport/session"

// robot tells whether a robot is at the other end.
func (c *connection) robot() bool { return c.id.Robot != "" }

// needsTarget says why a channel without a target is not for this identity; "" if it is.
func (c *connection) needsTarget() string {
	switch {
	case c.to.Target != "":
		return ""
	case c.robot():
		return "no target was named, and a robot has no menu. Type: ssh " + c.id.Login + "@TARGET@bastion COMMAND"
	case c.id.Certificate != nil && c.id.Certificate.Command != "":
		return "no target was named, and your certificate holds you to one command. Type: ssh " + c.id.Login + "@TARGET@bastion"
	}
	return ""
}

// only is what the identity holds a session to, whatever the rules allow.
func (c *connection) only() session.Only {
	o := session.Only{Commands: c.robot(), NoTerminal: c.robot()}
	if cert := c.id.Certificate; cert != nil {
		o.Command, o.NoTerminal = cert.Command, o.NoTerminal || !cert.PTY
	}
	return o
}
