package bastion

import "time"

// LookEvery sets how often Watch looks at the version of the rules; it must be called before.
func (s *Server) LookEvery(d time.Duration) { s.lookEvery = d }
