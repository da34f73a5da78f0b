import { describe, expect, test } from 'vitest'
import { ERRORS, type ErrorCode, RowanError } from '../../../src/errors.ts'
import { errnoOf } from '../../../src/nbd/errno.ts'
import { COMMAND, ERRNO } from '../../../src/nbd/protocol.ts'

const { READ, WRITE, WRITE_ZEROES, TRIM } = COMMAND

describe('errnoOf', () => {
  test('says what the table of errors says, and EIO where it says nothing', () => {
    expect(errnoOf(new RowanError('READ_ONLY', ''), WRITE)).toBe(ERRNO.EPERM)
    expect(errnoOf(new RowanError('DISK_FULL', ''), WRITE)).toBe(ERRNO.ENOSPC)
    expect(errnoOf(new RowanError('DISK_CLOSED', ''), READ)).toBe(ERRNO.ESHUTDOWN)
    expect(errnoOf(new RowanError('LAYER_FAILED', ''), WRITE)).toBe(ERRNO.EIO)
  })

  test('knows a number of the protocol for every code', () => {
    for (const code of Object.keys(ERRORS) as ErrorCode[]) {
      expect(Object.values(ERRNO)).toContain(errnoOf(new RowanError(code, ''), READ))
    }
  })

  test('past the end is ENOSPC for what writes, EINVAL for the rest', () => {
    const error = new RowanError('OUT_OF_RANGE', '')
    expect([WRITE, WRITE_ZEROES, READ, TRIM].map(command => errnoOf(error, command))).toEqual([
      ERRNO.ENOSPC,
      ERRNO.ENOSPC,
      ERRNO.EINVAL,
      ERRNO.EINVAL
    ])
  })

  test('a full disk or quota of the system is ENOSPC, anything unknown EIO', () => {
    expect(errnoOf(Object.assign(new Error(), { code: 'ENOSPC' }), WRITE)).toBe(ERRNO.ENOSPC)
    expect(errnoOf(Object.assign(new Error(), { code: 'EDQUOT' }), WRITE)).toBe(ERRNO.ENOSPC)
    expect(errnoOf(Object.assign(new Error(), { code: 'EIO' }), READ)).toBe(ERRNO.EIO)
    expect(errnoOf('not even an error', READ)).toBe(ERRNO.EIO)
  })
})
