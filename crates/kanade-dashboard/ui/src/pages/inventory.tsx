export function Inventory() { return <p>Not here yet</p>; }
