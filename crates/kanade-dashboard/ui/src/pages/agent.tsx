export function AgentPage() { return <p>Not here yet</p>; }
