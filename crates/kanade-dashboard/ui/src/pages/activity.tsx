export function Activity() { return <p>Not here yet</p>; }
