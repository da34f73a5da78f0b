import { expect, test } from 'vitest'
import { MAX_DEATHS, PERIOD_MS, RestartPolicy } from '../../../src/machine/restart-policy.ts'

test('a disk that dies now and then is always served again', () => {
  const policy = new RestartPolicy()
  for (let death = 0; death < 100; death++) expect(policy.died((death * PERIOD_MS) / 2)).toBe('restart')
})

test('one that dies too often in a short time is given up, until somebody has looked or time has passed', () => {
  const policy = new RestartPolicy()
  const actions = Array.from({ length: MAX_DEATHS }, (_, death) => policy.died(death))
  expect(actions).toEqual([...Array(MAX_DEATHS - 1).fill('restart'), 'give up'])
  expect(policy.died(PERIOD_MS - 1)).toBe('give up')
  policy.reset()
  expect(policy.died(PERIOD_MS)).toBe('restart')
  expect(policy.died(3 * PERIOD_MS)).toBe('restart')
})
