export function Agents() { return <p>Not here yet</p>; }
