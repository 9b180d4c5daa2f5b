export function Audit() { return <p>Not here yet</p>; }
