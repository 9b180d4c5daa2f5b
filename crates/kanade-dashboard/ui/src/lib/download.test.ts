import { expect, it } from 'vitest';

import { csvRow, fileName } from './download';

it('a row of a CSV file survives commas, quotes and line breaks', () => {
  expect(csvRow(['a', 'b,c', 'say "x"', 'two\nlines', null, 3, -4, { k: [1] }])).toBe('a,"b,c","say ""x""","two\nlines",,3,-4,"{""k"":[1]}"\r\n');
});

it('a text from an agent is no formula in a spreadsheet', () => {
  for (const text of ['=1+1', '+1', '@SUM(A1)', '-2+3']) expect(csvRow([text])).toBe(`'${text}\r\n`);
});

it('the name of a file is one on every system', () => {
  expect(fileName('a/b=c', '..', 'x y')).toBe('a_b_c-..-x_y');
});
