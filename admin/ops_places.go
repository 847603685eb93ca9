package admin

import (
	"context"

	"sallyport/store"
)

// userPlaces lists where a person signed in from, and from where somebody tried to as them.
func (s *Server) userPlaces(ctx context.Context, login string) (UserPlaces, error) {
	u, err := s.user(ctx, login)
	if err != nil {
		return UserPlaces{}, err
	}
	in, err := s.cfg.Store.Places.List(ctx, u.ID)
	if err != nil {
		return UserPlaces{}, err
	}
	refused, err := s.cfg.Store.Places.ListRefused(ctx, u.ID)
	if err != nil {
		return UserPlaces{}, err
	}
	return UserPlaces{SignedIn: list(in, wirePlace), Refused: list(refused, wirePlace)}, nil
}

func wirePlace(p store.Place) Place {
	return Place{Source: p.Source.String(), First: timeOf(p.First), Last: timeOf(p.Last), Count: p.Count}
}
