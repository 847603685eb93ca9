package admin

import "time"

// Approval is a request of a person for one session that others have to agree to.
type Approval struct {
	ID           string             `json:"id"`
	Code         string             `json:"code" doc:"what approvers type; good while the request is pending" example:"7Q2F"`
	State        string             `json:"state" doc:"pending, approved, refused, withdrawn, expired or used"`
	Why          string             `json:"why" doc:"it was withdrawn, or refused by an operator"`
	Session      string             `json:"session" doc:"id that the session has once it is started"`
	User         string             `json:"user"`
	Target       string             `json:"target"`
	Account      string             `json:"account"`
	Source       string             `json:"source"`
	Asked        string             `json:"asked" doc:"what the person came with" example:"exec: uptime"`
	Reason       string             `json:"reason" doc:"in the person's words"`
	Rule         string             `json:"rule"`
	RulesVersion int64              `json:"rules_version"`
	Approvers    [][]string         `json:"approvers" nullable:"false" doc:"words as in users of a rule; whoever decides is named by each of the lists"`
	Needed       int                `json:"needed"`
	Given        int                `json:"given"`
	Decisions    []ApprovalDecision `json:"decisions" nullable:"false"`
	Node         string             `json:"node"`
	Requested    *time.Time         `json:"requested"`
	Expires      *time.Time         `json:"expires"`
	Settled      *time.Time         `json:"settled"`
}

// ApprovalDecision is what one approver said.
type ApprovalDecision struct {
	User    string     `json:"user"`
	Verdict string     `json:"verdict" doc:"approve or refuse"`
	Reason  string     `json:"reason"`
	Door    string     `json:"door"`
	Source  string     `json:"source"`
	At      *time.Time `json:"at"`
}

// Refusal is an operator's no.
type Refusal struct {
	Reason string `json:"reason,omitempty" maxLength:"500" doc:"text that the person reads"`
}
