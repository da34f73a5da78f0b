import { expect, test } from 'vitest'
import { MAX_IMAGE_BYTES } from '../../../src/cluster.ts'
import { applianceId, checkName, checkSize, parseApplianceRef, splitApplianceId } from '../../../src/image/names.ts'
import { withCode } from './with-code.ts'

const PUBLISHER = '12D3KooWALL1RxhKY23Q9CJ5R5ktHgQpukF3W9RTva85xoxdEkfr'

test.each(['a', '0', 'grid', 'v1', 'a.b-c_d', '1.2.3', 'x'.repeat(64)])('takes the name %j', name => {
  expect(checkName(name, 'appliance')).toBe(name)
})

test.each(['', '.', '..', '-a', '_a', 'A', 'grid v1', 'a/b', 'a@b', 'a:b', 'ä', 'a\n', 'a\0', 'x'.repeat(65)])(
  'refuses the name %j',
  name => {
    expect(() => checkName(name, 'version')).toThrow(withCode('NAME_INVALID'))
    expect(() => checkName(name, 'version')).toThrow(/version/)
  }
)

test.each([
  ['grid', { name: 'grid' }],
  ['grid@v2', { name: 'grid', version: 'v2' }],
  ['grid:stable', { name: 'grid', channel: 'stable' }],
  [`${PUBLISHER}/grid`, { publisher: PUBLISHER, name: 'grid' }],
  [`${PUBLISHER}/grid@1.0`, { publisher: PUBLISHER, name: 'grid', version: '1.0' }],
  [`${PUBLISHER}/grid:testing`, { publisher: PUBLISHER, name: 'grid', channel: 'testing' }]
])('reads the appliance %s', (text, expected) => {
  expect(parseApplianceRef(text)).toEqual(expected)
})

test.each([
  '',
  '@v1',
  'grid@',
  'grid:',
  'grid@v1:stable',
  'grid@v1@v2',
  'Grid',
  '/grid',
  'a/b/c',
  'short/grid',
  `${PUBLISHER}/`,
  `${PUBLISHER}0/grid`,
  'grid@V1',
  `${'1'.repeat(129)}/grid`,
  'grid\n'
])('refuses the appliance %j', text => {
  expect(() => parseApplianceRef(text)).toThrow(withCode('APPLIANCE_REF_INVALID'))
})

test('joins and splits full ids', () => {
  const id = applianceId(PUBLISHER, 'grid')
  expect(splitApplianceId(id)).toEqual({ publisher: PUBLISHER, name: 'grid' })
  for (const text of ['grid', `${id}@v1`, `${id}:stable`]) {
    expect(() => splitApplianceId(text)).toThrow(withCode('APPLIANCE_REF_INVALID'))
  }
})

test('bounds the size of an image', () => {
  expect(checkSize(1)).toBe(1)
  expect(checkSize(MAX_IMAGE_BYTES)).toBe(MAX_IMAGE_BYTES)
  for (const size of [0, -1, 1.5, Number.NaN]) expect(() => checkSize(size)).toThrow(withCode('IMAGE_EMPTY'))
  expect(() => checkSize(MAX_IMAGE_BYTES + 1)).toThrow(withCode('IMAGE_TOO_LARGE'))
})
