export function ExecutionPage() { return <p>Not here yet</p>; }
