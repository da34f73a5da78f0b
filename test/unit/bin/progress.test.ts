import { expect, test } from 'vitest'
import { ProgressView } from '../../../bin/progress.ts'
import { counted, facts, shortAppliance, table } from '../../../bin/text.ts'

function view(isTTY: boolean, columns?: number): { shown: ProgressView; text: () => string } {
  let text = ''
  const write = (more: string) => {
    text += more
  }
  return { shown: new ProgressView({ isTTY, write, ...(columns === undefined ? {} : { columns }) }), text: () => text }
}

test('elsewhere than on a terminal there is a line for every ten per cent', () => {
  const { shown, text } = view(false)
  for (let done = 0; done <= 1000; done++) shown.show({ phase: 'fetching', done, of: 1000, unit: 'blocks' })
  shown.show({ phase: 'announcing', done: 1, of: 2, unit: 'percent' })
  shown.end()
  const lines = text().trimEnd().split('\n')
  expect(lines).toHaveLength(12)
  expect(lines[3]).toBe('fetching: 30 %, 300 of 1000 blocks')
  expect(lines.at(-1)).toBe('announcing: 50 %')
})

test('on a terminal one bar redraws itself, and stays when the phase is over', () => {
  const { shown, text } = view(true)
  shown.show({ phase: 'hashing', done: 0, of: 4e9, unit: 'bytes' })
  for (let i = 0; i < 1000; i++) shown.show({ phase: 'hashing', done: 1e9 + i, of: 4e9, unit: 'bytes' })
  shown.show({ phase: 'hashing', done: 4e9, of: 4e9, unit: 'bytes' })
  shown.end()
  const frames = text().split('\r\u001b[K').slice(1)
  expect(frames.length).toBeLessThan(20)
  expect(frames.at(-1)).toBe(`hashing  ${'█'.repeat(30)}  100 %  4 GB of 4 GB\n`)
})

test.each([
  [60, '█'.repeat(5)],
  [51, '█'.repeat(5)],
  [50, ''],
  [30, ''],
  [12, '']
])('a terminal of %d columns has room for each line: one that is wrapped could not be drawn over', (columns, bar) => {
  const { shown, text } = view(true, columns)
  const of = 8_888_000_000
  for (const done of [0, of / 3, of]) shown.show({ phase: 'recording a boot', done, of, unit: 'bytes' })
  shown.end()
  const frames = text().trimEnd().split('\r\u001b[K').slice(1)
  for (const frame of frames) expect(frame.length).toBeLessThan(columns)
  expect(frames.at(-1)).toContain(bar)
  expect(frames.at(-1)).toMatch(columns < 20 ? /^recordin/ : /^recording a boot {2}.*100 %/)
})

test('nothing to do is done', () => {
  const { shown, text } = view(false)
  shown.show({ phase: 'fetching', done: 0, of: 0, unit: 'blocks' })
  expect(text()).toBe('fetching: 100 %, 0 of 0 blocks\n')
})

test('a table that is wider than the terminal is a list of facts for each row', () => {
  const [header, rows] = [
    ['NAME', 'STATE', 'NOTE'],
    [
      ['one', 'attached', ''],
      ['two', '-', 'before the update']
    ]
  ]
  expect(table(header, rows, 36)).toBe('NAME  STATE     NOTE\none   attached\ntwo   -         before the update')
  expect(table(header, rows, 30)).toBe('NAME   one\nSTATE  attached\n\nNAME   two\nSTATE  -\nNOTE   before the update')
})

test('tables and facts', () => {
  expect(
    table(
      ['A', 'LONG'],
      [
        ['xyz', '1'],
        ['b', '']
      ]
    )
  ).toBe('A    LONG\nxyz  1\nb')
  expect(
    facts([
      ['one', 'a'],
      ['two', ['b', 'c']],
      ['none', []]
    ])
  ).toBe('one   a\ntwo   b\n      c\nnone  none')
  expect(shortAppliance(`12D3KooW${'x'.repeat(44)}/grid`)).toBe('12D3KooWxxxx…/grid')
  expect([counted(1, 'peer'), counted(2, 'peer')]).toEqual(['1 peer', '2 peers'])
})
