package admin

import (
	"context"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// Inputs of routes about host keys that wait.
type (
	waitingInput struct {
		Target string   `query:"target" maxLength:"255" doc:"of this target only"`
		Label  []string `query:"label,explode" maxItems:"20" doc:"of targets with this label: key=value"`
	}
	hostCAInput struct {
		Hosts string `query:"hosts" maxLength:"2000" doc:"patterns for the line of known_hosts in the place of all names and hosts, such as *.example.org,web*"`
	}
	byWaiting struct {
		ID string `path:"id" maxLength:"64"`
	}
	byWaitingWith[T any] struct {
		ID   string `path:"id" maxLength:"64"`
		Body T
	}
)

func (s *Server) hostKeyRoutes(api huma.API) {
	register(s, api, route(needAuditor, http.MethodGet, "/hostkeys", "hostkey-list", "List host keys that were refused and wait"),
		func(ctx context.Context, _ Caller, in *waitingInput) (*body[[]WaitingHostKey], error) {
			wanted, err := labels(strings.Join(in.Label, ","))
			if err != nil {
				return nil, err
			}
			waiting, err := s.waitingHostKeys(ctx, in.Target, wanted)
			if err != nil {
				return nil, err
			}
			return answer(waiting), nil
		})
	register(s, api, route(needAdmin, http.MethodPost, "/hostkeys/{id}/approve", "hostkey-approve", "Make a waiting key the host key of its target"),
		func(ctx context.Context, by Caller, in *byWaitingWith[NewApproval]) (*body[WaitingHostKey], error) {
			w, err := s.approveHostKey(ctx, by, in.ID, in.Body.Add)
			if err != nil {
				return nil, err
			}
			return answer(w), nil
		})
	register(s, api, route(needAdmin, http.MethodPost, "/hostkeys/{id}/reject", "hostkey-reject", "Never accept a waiting key for its target"),
		func(ctx context.Context, by Caller, in *byWaiting) (*body[WaitingHostKey], error) {
			w, err := s.rejectHostKey(ctx, by, in.ID)
			if err != nil {
				return nil, err
			}
			return answer(w), nil
		})
	register(s, api, route(needAdmin, http.MethodPost, "/hostkeys/import", "hostkey-import", "Take lines of known_hosts for the targets there are"),
		func(ctx context.Context, by Caller, in *with[NewImport]) (*body[[]ImportedKey], error) {
			report, err := s.importHostKeys(ctx, by, in.Body.Text)
			if err != nil {
				return nil, err
			}
			return answer(report), nil
		})
	register(s, api, route(needAuditor, http.MethodGet, "/hostca", "hostca-show", "Show the key that vouches for the bastion's host keys in the place of targets"),
		func(ctx context.Context, _ Caller, in *hostCAInput) (*body[HostCA], error) {
			ca, err := s.hostCA(ctx, in.Hosts)
			if err != nil {
				return nil, err
			}
			return answer(ca), nil
		})
	register(s, api, route(needAdmin, http.MethodPost, "/hostca/rotate", "hostca-rotate", "Make the key that is to vouch next, for clients to trust; nothing else changes"),
		func(ctx context.Context, by Caller, _ *nothing) (*body[HostCA], error) {
			ca, err := s.rotateHostCA(ctx, by)
			if err != nil {
				return nil, err
			}
			return answer(ca), nil
		})
	register(s, api, route(needAdmin, http.MethodPost, "/hostca/drop", "hostca-drop", "Remove the next key; the one of now goes on"),
		func(ctx context.Context, by Caller, in *with[DropKey]) (*body[HostCA], error) {
			ca, err := s.dropHostCA(ctx, by, in.Body)
			if err != nil {
				return nil, err
			}
			return answer(ca), nil
		})
	register(s, api, route(needAdmin, http.MethodPost, "/hostca/activate", "hostca-activate", "Have the next key vouch from now on; the one before is gone"),
		func(ctx context.Context, by Caller, in *with[ActivateHostCA]) (*body[HostCA], error) {
			ca, err := s.activateHostCA(ctx, by, in.Body)
			if err != nil {
				return nil, err
			}
			return answer(ca), nil
		})
}
