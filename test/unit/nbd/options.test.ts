import { expect, test } from 'vitest'
import { META_CONTEXTS } from '../../../src/nbd/meta-context.ts'
import { NOTHING_AGREED, OPTIONS } from '../../../src/nbd/options.ts'
import { OPTION } from '../../../src/nbd/protocol.ts'

const exports = { list: () => [], open: () => undefined }

test('STARTTLS forgets what was agreed on in the clear: somebody else may have said it', () => {
  const agreed = { mode: 'structured' as const, contexts: META_CONTEXTS, contextsOf: 'disk' }
  const context = { exports, maxListedExports: 1, noZeroes: true, agreed, tls: 'required' as const }
  const answer = OPTIONS.get(OPTION.STARTTLS)!.answer(OPTION.STARTTLS, Buffer.alloc(0), context)
  expect(answer).toMatchObject({ startTls: true, agreed: NOTHING_AGREED })
})

test('nothing but STARTTLS and ABORT goes before TLS', () => {
  const first = [...OPTIONS].filter(([, rule]) => rule.beforeTls === true).map(([, rule]) => rule.name)
  expect(first.sort()).toEqual(['ABORT', 'STARTTLS'])
})
